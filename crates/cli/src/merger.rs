//! `--conflict merge=CMD`: a command of the user's own makes one file of two.
//!
//! Invariant: no shell ever sees it. The command is split into words once, and names of files are put into words, never into a line; what
//! the files are called in the tree is no argument unless `{path}` asks for it. It ends within its time, with all that it started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use syncline_model::{Clock, Fault, Kind, Result};
use syncline_sync::{Merged, Merger, VERSION_MAX, Versions};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::files::Files;
use crate::open::World;
use crate::place::shown;

/// How long one merge may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of what a command complains of is kept.
const SAID_MAX: usize = 2000;
/// An extension that tools may go by.
const EXTENSION_MAX: usize = 32;

/// A command that merges.
pub struct CommandMerger {
    words: Vec<Vec<u8>>,
    files: Files,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    patience: Duration,
}

impl CommandMerger {
    /// Runs `command`, with its files below `state`, which is ours alone.
    pub fn new(command: &str, world: &World, state: &Path) -> Result<Self> {
        let words = words(command).map_err(|what| Fault::new(Kind::Invalid, what, "--conflict merge="))?;
        Ok(Self {
            words,
            files: world.files.clone(),
            clock: Arc::clone(&world.env.clock),
            dir: state.join("merge"),
            patience: PATIENCE,
        })
    }

    fn arguments(&self, versions: &Versions<'_>, at: &[PathBuf; 3]) -> Vec<OsString> {
        let [base, left, right] = at.each_ref().map(|path| path.as_os_str().as_bytes());
        let path = versions.path.as_bytes();
        let places: [(&[u8], &[u8]); 4] = [
            (b"{base}", base),
            (b"{left}", left),
            (b"{right}", right),
            (b"{path}", path),
        ];
        let named = self.words.iter().any(|word| {
            places[..3]
                .iter()
                .any(|(mark, _)| word.windows(mark.len()).any(|part| part == *mark))
        });
        let mut arguments: Vec<OsString> = self
            .words
            .iter()
            .map(|word| OsString::from_vec(filled(word, &places)))
            .collect();
        if !named {
            arguments.extend(at.iter().map(|path| path.clone().into_os_string()));
        }
        arguments
    }

    async fn ask(&self, versions: &Versions<'_>) -> Result<Merged> {
        let name = versions.path.name();
        let extension = name.as_ref().and_then(|name| {
            let found = Path::new(OsStr::from_bytes(name.as_bytes())).extension()?;
            (found.len() <= EXTENSION_MAX).then(|| found.to_owned())
        });
        let file = |stem: &str| {
            let mut path = self.dir.join(stem);
            if let Some(extension) = &extension {
                path.set_extension(extension);
            }
            path
        };
        let at = [file("base"), file("left"), file("right")];
        let contents = [versions.base.unwrap_or_default(), versions.left, versions.right];
        for (path, bytes) in at.iter().zip(contents) {
            self.files.write(path, bytes)?;
        }
        let arguments = self.arguments(versions, &at);
        let Some((program, rest)) = arguments.split_first() else {
            return Err(Fault::new(Kind::Bug, "a command of no words", ""));
        };
        let child = Command::new(program)
            .args(rest)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                let what = format!("the merge command cannot be started: {error}");
                return Err(Fault::new(Kind::Invalid, what, shown(program))
                    .hint("name a program by its path, or one that PATH leads to; nothing was changed"));
            }
        };
        let group = child.id();
        tokio::select! {
            ended = outcome(&mut child) => ended,
            () = self.clock.sleep(self.patience) => {
                end_group(group);
                Ok(Merged::Refused(format!("the command took longer than {} s", self.patience.as_secs())))
            }
        }
    }
}

#[async_trait]
impl Merger for CommandMerger {
    async fn merge(&self, versions: Versions<'_>) -> Result<Merged> {
        self.files.make_last(&self.dir, 0o700)?;
        let merged = self.ask(&versions).await;
        self.files.remove_tree(&self.dir)?;
        merged
    }
}

/// What the command printed and how it ended.
async fn outcome(child: &mut Child) -> Result<Merged> {
    let lost =
        |error: std::io::Error| Fault::new(Kind::Corrupt, format!("the merge command's output: {error}"), "");
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let group = child.id();
    let (made, said) = tokio::join!(up_to(out, VERSION_MAX as usize), up_to(errors, SAID_MAX));
    let ((made, more), (said, _)) = (made.map_err(lost)?, said.map_err(lost)?);
    if more {
        end_group(group);
        return Ok(Merged::Refused(format!(
            "the command printed more than {VERSION_MAX} bytes"
        )));
    }
    let ended = child.wait().await.map_err(lost)?;
    if ended.success() {
        return Ok(Merged::Clean(made));
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let dash = if said.is_empty() { "" } else { ": " };
    Ok(Merged::Refused(format!(
        "the command ended with {ended}{dash}{said}"
    )))
}

/// The first bytes of a stream, and whether there were more. The rest is read and dropped, so that nobody waits to write it; of what is to
/// be merged more than the limit ends the reading.
async fn up_to(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let Some(mut stream) = stream else {
        return Ok((Vec::new(), false));
    };
    let mut kept = Vec::new();
    let mut chunk = vec![0; 1 << 14];
    let mut more = false;
    loop {
        let read = stream.read(&mut chunk).await?;
        let room = limit - kept.len();
        kept.extend_from_slice(&chunk[..read.min(room)]);
        more |= read > room;
        if read == 0 || (more && limit > SAID_MAX) {
            return Ok((kept, more));
        }
    }
}

/// Ends the command and what it started.
fn end_group(group: Option<u32>) {
    let id = group.and_then(|id| i32::try_from(id).ok());
    let group = id.filter(|_| !syncline_model::zoo::on("merge-command-left-behind"));
    if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// A word with file names in place of marks. What was put in is not looked at again.
fn filled(word: &[u8], places: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < word.len() {
        match places.iter().find(|(mark, _)| word[at..].starts_with(mark)) {
            Some((mark, text)) => {
                out.extend_from_slice(text);
                at += mark.len();
            }
            None => {
                out.push(word[at]);
                at += 1;
            }
        }
    }
    out
}

/// Splits a command into words: blanks separate, quotes and backslashes keep together. Nothing else means anything.
pub fn words(command: &str) -> Result<Vec<Vec<u8>>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => match rest.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("merge=: a backslash at the end".into()),
            },
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("merge=: a quote that is not closed".into());
    }
    words.extend(word);
    Ok(words.into_iter().map(String::into_bytes).collect())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real disk")]
mod tests {
    use super::*;
    use syncline_model::RelPath;

    fn split(command: &str) -> Vec<String> {
        let found = words(command).unwrap();
        found
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect()
    }

    #[test]
    fn sx_a_command_is_words_and_no_shell_line() {
        assert_eq!(split("diff3 -m"), ["diff3", "-m"]);
        assert_eq!(
            split(r#"tool 'a b' "c \" d" e\ f ''"#),
            ["tool", "a b", "c \" d", "e f", ""]
        );
        assert_eq!(split("a;b $(c) | d > e"), ["a;b", "$(c)", "|", "d", ">", "e"]);
        for bad in ["a 'b", "a \"b", "a\\"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let places: [(&[u8], &[u8]); 2] = [(b"{left}", b"{right}"), (b"{right}", b"r")];
        assert_eq!(filled(b"--x={left},{right}", &places), b"--x={right},r");
        assert_eq!(filled(b"{other}", &places), b"{other}");
    }

    fn merger(command: &str, dir: &Path) -> CommandMerger {
        CommandMerger {
            words: words(command).unwrap(),
            files: Files::new(),
            clock: Arc::new(syncline_store::real::SystemClock),
            dir: dir.join("merge"),
            patience: Duration::from_millis(700),
        }
    }

    async fn ask(command: &str) -> Result<Merged> {
        let dir = tempfile::tempdir().unwrap();
        let merger = merger(command, dir.path());
        let path = RelPath::try_from("d/$(touch x); 'n.txt").unwrap();
        let versions = Versions {
            path: &path,
            base: Some(b"base\n"),
            left: b"left\n",
            right: b"right\n",
        };
        let merged = merger.merge(versions).await;
        assert!(!merger.dir.exists(), "the versions are left behind");
        merged
    }

    #[tokio::test]
    async fn a_command_gets_three_files_and_its_output_is_taken() {
        let clean = |bytes: &[u8]| Merged::Clean(bytes.to_vec());
        assert_eq!(ask("cat").await.unwrap(), clean(b"base\nleft\nright\n"));
        assert_eq!(ask("cat {right}").await.unwrap(), clean(b"right\n"));
        let Merged::Clean(echoed) = ask("echo {path}{left}x").await.unwrap() else {
            panic!("refused");
        };
        let echoed = String::from_utf8(echoed).unwrap();
        assert!(echoed.starts_with("d/$(touch x); 'n.txt/"), "{echoed}");
        let echoed = ask("sh -c 'basename $1' {left} {left}").await.unwrap();
        assert_eq!(echoed, clean(b"left.txt\n"));
    }

    /// Whether a command that hangs ends with all that it started: a pipe that they hold open is closed.
    async fn ends_all() -> bool {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let (closed, told) = std::sync::mpsc::channel();
        let reader = pipe.clone();
        std::thread::spawn(move || closed.send(std::fs::read(reader).is_ok()));
        let command = format!("sh -c 'exec 9>{}; sleep 100 & sleep 100'", pipe.display());
        let hung = ask(&command).await.unwrap();
        assert!(matches!(hung, Merged::Refused(why) if why.contains("longer than")));
        told.recv_timeout(Duration::from_secs(20)).unwrap_or(false)
    }

    #[tokio::test]
    async fn s36_a_command_that_fails_hangs_or_prints_much_merges_nothing() {
        let refused = |merged: Merged| match merged {
            Merged::Refused(why) => why,
            Merged::Clean(_) => panic!("merged"),
        };
        let why = refused(ask("sh -c 'echo no way >&2; exit 3'").await.unwrap());
        assert!(why.contains("exit status: 3") && why.contains("no way"), "{why}");
        let why = refused(ask("sh -c 'yes | head -c 100000 >&2; exit 1'").await.unwrap());
        assert!(why.len() < SAID_MAX + 100);
        let why = refused(ask("sh -c 'sleep 100 & sleep 100'").await.unwrap());
        assert!(why.contains("longer than"), "{why}");
        assert!(ends_all().await, "what the command had started lives on");
        let why = refused(ask("yes").await.unwrap());
        assert!(why.contains("printed more"), "{why}");
        assert!(
            ask("/no/such/program")
                .await
                .is_err_and(|fault| fault.is(Kind::Invalid))
        );
    }
}
