#!/usr/bin/env python3
"""Benchmarks: this program beside what a user would pick instead, in one run, medians and ratios.

usage: bench.py [--binary PATH] [--work DIR] [--runs N] [CASE ...]

Every line names the durability tier. "floor" is the fastest way to get the same durable result with plain tools.
A tree is made once and kept in --work. Cases: no-change, first-small, first-big, changed, rename, bucket.
"""
import argparse, contextlib, json, os, random, resource, shutil, statistics, subprocess, sys, time

def sh(*args, **kw):
    env = dict(os.environ, HOME=kw.pop("home", os.environ.get("HOME", "/root")), **kw.pop("env", {}))
    out = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **kw)
    if out.returncode not in (0,):
        sys.exit(f"{' '.join(args)}: exit {out.returncode}\n{out.stdout.decode(errors='replace')[-2000:]}{out.stderr.decode(errors='replace')[-2000:]}")
    return out.stdout.decode(errors="replace")

def timed(*args, **kw):
    """Seconds and peak memory in MiB of the process tree's largest member."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_WRONLY)
        log = os.open("/tmp/syncline-bench.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(null, 1), os.dup2(log, 2)
        os.environ.update(kw.get("env", {}))
        os.execvp(args[0], args)
    _, status, usage = os.wait4(pid, 0)
    took = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code not in kw.get("ok", (0,)):
        sys.exit(f"{' '.join(args)}: exit {code}\n{open('/tmp/syncline-bench.err').read()[-2000:]}")
    return took, usage.ru_maxrss / 1024

def tree(root, dirs, per, size, seed=1):
    """dirs directories of per files of size bytes each; kept when it is there."""
    if os.path.exists(root + ".made"):
        return
    shutil.rmtree(root, ignore_errors=True)
    dice = random.Random(seed)
    for d in range(dirs):
        at = f"{root}/d{d // 100:03}/e{d % 100:03}"
        os.makedirs(at)
        for f in range(per):
            with open(f"{at}/file{f:05}.bin", "wb") as out:
                out.write(dice.randbytes(size))
    open(root + ".made", "w").close()

def settle():
    os.sync()

class Case:
    def __init__(self, args):
        self.a, self.times, self.memory = args, {}, {}
    def add(self, who, result):
        self.times.setdefault(who, []).append(result[0])
        self.memory[who] = max(self.memory.get(who, 0), result[1])
    def show(self, name, tier, targets, floor=None):
        """With a floor (who sets it): a target below it is met at 1.1 of it."""
        medians = {who: statistics.median(t) for who, t in self.times.items()}
        ours = medians["syncline"]
        for who, median in medians.items():
            ratio = "" if who == "syncline" else f"  ours/{who} {ours / median:.2f}"
            limit = f" (must be at most {targets[who]})" if who in targets else ""
            verdict = "" if who not in targets else "  met" if ours <= targets[who] * median else "  MISSED"
            if verdict == "  MISSED" and floor and targets[who] * median < medians[floor] and ours <= 1.1 * medians[floor]:
                verdict = "  met by the floor"
            print(f"{name:12} {who:22} {median:8.3f} s  {self.memory[who]:7.0f} MiB{ratio}{limit}{verdict}  [{tier}]", flush=True)
        return medians

def fresh(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    settle()

def no_change(a):
    src, dst, state = f"{a.work}/million", f"{a.work}/million.copy", f"{a.work}/state.million"
    tree(src, a.dirs, 100, 16)
    if not os.path.exists(dst + ".made"):
        fresh(dst, state); sh("cp", "-a", src, dst); open(dst + ".made", "w").close()
    case, home = Case(a), f"{a.work}/unison.home"
    timed(a.binary, "sync", src, dst, "--state", state, "-q")
    timed(a.binary, "sync", src, dst, "--state", state, "-q")
    unison = ["unison", src, dst, "-batch", "-auto", "-silent", "-times", "-perms", "-1", "-ignore", "Path .syncline"]
    os.makedirs(home, exist_ok=True)
    if not a.no_unison:
        timed(*unison, env={"UNISON": home}, ok=(0, 1))
    for _ in range(a.runs):
        case.add("syncline", timed(a.binary, "sync", src, dst, "--state", state, "-q"))
        case.add("rsync -a", timed("rsync", "-a", src + "/", dst + "/"))
        if not a.no_unison:
            case.add("unison", timed(*unison, env={"UNISON": home}, ok=(0, 1)))
    case.show("no-change", "nothing to write", {"rsync -a": 0.7, "unison": 0.3})
    print(f"no-change    memory {case.memory['syncline']:.0f} MiB (must be at most 150)")

@contextlib.contextmanager
def own_disk(a):
    """A file system made this moment, for root: ext4 passes over inodes that were freed a moment ago, one by one, so on a used
    one whoever copies after a removal pays for it."""
    at, image = f"{a.work}/disk", f"{a.work}/disk.img"
    os.makedirs(at, exist_ok=True)
    if os.geteuid() != 0:
        yield at
        return fresh(at)
    sh("fallocate", "-l", "2G", image)
    sh("mkfs.ext4", "-q", "-F", "-i", "8192", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    sh("mount", "-o", "loop", image, at)
    settle()
    try:
        yield at
    finally:
        sh("umount", at)
        os.remove(image)

def first(a, name, dirs, per, size, targets):
    """Small files go to file systems of their own."""
    src = f"{a.work}/{name}"
    tree(src, dirs, per, size)
    case = Case(a)
    for _ in range(a.runs):
        for who in ("syncline", "cp -a + sync -f", "rsync -a + sync -f"):
            with own_disk(a) if size <= 1 << 16 else contextlib.nullcontext(a.work) as top:
                dst, state = (f"{top}/{name}.{x}" for x in ("dst", "state"))
                fresh(dst, state)
                if who == "syncline":
                    case.add(who, timed(a.binary, "sync", src, dst, "--state", state, "-q"))
                else:
                    tool = f"cp -a {src} {dst}" if who[0] == "c" else f"rsync -a {src}/ {dst}/"
                    case.add(who, timed("sh", "-c", f"{tool} && sync -f {dst}"))
                fresh(dst, state)
    medians = case.show(name, "durable at exit", targets, "cp -a + sync -f")
    floor = medians["cp -a + sync -f"]
    print(f"{name:12} floor (cp -a + sync -f) {floor:.3f} s; ours is {medians['syncline'] / floor:.2f} of it (met at 1.10 where a target is below it)")

def changed(a):
    src = f"{a.work}/first-small"
    tree(src, 1000, 100, 1024)
    case = Case(a)
    trees = {}
    for who in ("syncline", "rsync -a + sync -f"):
        mine, dst, state = (f"{a.work}/changed.{who[:4]}.{x}" for x in ("src", "dst", "state"))
        fresh(mine, dst, state)
        sh("cp", "-a", src, mine); sh("cp", "-a", src, dst)
        if who == "syncline":
            timed(a.binary, "sync", mine, dst, "--state", state, "-q")
        trees[who] = (mine, dst, state)
    dice = random.Random(7)
    for _ in range(a.runs):
        for who, (mine, dst, state) in trees.items():
            for _ in range(1000):
                d, f = dice.randrange(1000), dice.randrange(100)
                with open(f"{mine}/d{d // 100:03}/e{d % 100:03}/file{f:05}.bin", "wb") as out:
                    out.write(dice.randbytes(1024 + dice.randrange(64)))
            settle()
            if who == "syncline":
                case.add(who, timed(a.binary, "sync", mine, dst, "--state", state, "-q"))
            else:
                case.add(who, timed("sh", "-c", f"rsync -a {mine}/ {dst}/ && sync -f {dst}"))
    case.show("changed", "durable at exit", {"rsync -a + sync -f": 1.0})
    for paths in trees.values():
        fresh(*paths)

def rename(a):
    src, dst, state = (f"{a.work}/rename.{x}" for x in ("src", "dst", "state"))
    fresh(src, dst, state)
    os.makedirs(src)
    big = f"{src}/old"
    os.makedirs(big)
    for f in range(100_000):
        with open(f"{big}/file{f:06}", "wb") as out:
            out.write(b"x%d" % f)
    time.sleep(0.1)
    sh(a.binary, "sync", src, dst, "--state", state, "-q")
    sh(a.binary, "sync", src, dst, "--state", state, "-q")
    scans, runs, name = [], [], "old"
    for n in range(a.runs):
        scans.append(timed(a.binary, "sync", src, dst, "--state", state, "-q")[0])
        new = f"new{n}"
        os.rename(f"{src}/{name}", f"{src}/{new}")
        name = new
        start = time.monotonic()
        out = sh(a.binary, "sync", src, dst, "--state", state, "--json")
        runs.append(time.monotonic() - start)
        summary = json.loads(out.strip().splitlines()[-1])
    after = statistics.median(runs) - statistics.median(scans)
    print(f"rename       100,000 files: {statistics.median(runs):.3f} s in all, {after:.3f} s after the scan (must be at most 1)"
          f"{'  met' if after <= 1 else '  MISSED'}; right {summary['right']}  [durable at exit]")
    fresh(src, dst, state)

def bucket(a):
    src = f"{a.work}/bucket.src"
    tree(src, 200, 100, 4096)
    data = f"{a.work}/bucket.data"
    fresh(data); os.makedirs(data)
    # The server walks a whole bucket for each page of a listing: every round has its own.
    buckets = [f"{whose}{n}" for n in range(a.runs) for whose in ("ours", "theirs")]
    server = subprocess.Popen([a.server, data, *buckets], stdout=subprocess.PIPE, text=True)
    env = dict(server.stdout.readline().strip().split("=", 1) for _ in range(4))
    env["endpoint"] = env["AWS_ENDPOINT_URL"]
    os.environ.pop("AWS_CA_BUNDLE", None)  # rclone cannot bring one together with its own transport
    creds = {k: env[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    rclone = ["rclone", "copy", "--transfers", "16", "--checkers", "16", "--s3-provider", "Other", "--s3-env-auth",
              "--s3-endpoint", env["endpoint"], "--s3-region", "us-east-1", "--s3-no-check-bucket", "-q"]
    try:
        up, down = Case(a), Case(a)
        for n in range(a.runs):
            state, back, back2, back_state = (f"{a.work}/bucket.{x}{n}" for x in ("state", "back", "rclone", "back.state"))
            fresh(state, back, back2, back_state)
            a.rubbish += [state, back, back2, back_state]
            target = f"s3://ours{n}?endpoint={env['endpoint']}&region=us-east-1"
            up.add("syncline", timed(a.binary, "sync", src, target, "--state", state, "--jobs", "16", "-q", env=creds))
            up.add("rclone copy", timed(*rclone, src, f":s3:theirs{n}", env=creds))
            os.makedirs(back)
            settle()
            down.add("syncline", timed(a.binary, "sync", back, target, "--state", back_state, "--jobs", "16", "-q", env=creds))
            settle()
            fetched = " ".join([*rclone, f":s3:theirs{n}", back2])
            down.add("rclone copy + sync -f", timed("sh", "-c", f"{fetched} && sync -f {back2}", env=creds))
        up.show("bucket-up", "server's word", {"rclone copy": 0.7})
        down.show("bucket-down", "durable at exit", {"rclone copy + sync -f": 0.7})
    finally:
        server.kill()
    a.rubbish.append(data)

def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser()
    p.add_argument("--binary", default=f"{here}/../target/release/syncline")
    p.add_argument("--server", default=f"{here}/../target/release/s3-server")
    p.add_argument("--work", default="/tmp/syncline-bench")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--dirs", type=int, default=10_000, help="directories of 100 files in no-change")
    p.add_argument("--no-unison", action="store_true")
    p.add_argument("cases", nargs="*")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    cases = {
        "no-change": lambda: no_change(a),
        "first-small": lambda: first(a, "first-small", 1000, 100, 1024, {"cp -a + sync -f": 1.0, "rsync -a + sync -f": 0.6}),
        "first-big": lambda: first(a, "first-big", 20, 100, 1 << 20, {"cp -a + sync -f": 1.1}),
        "changed": lambda: changed(a),
        "rename": lambda: rename(a),
        "bucket": lambda: bucket(a),
    }
    a.rubbish = []
    try:
        for name in a.cases or cases:
            cases[name]()
    finally:
        fresh(*a.rubbish)

main()
