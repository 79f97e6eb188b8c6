//! Which paths take part: rules in gitignore syntax, anchored at the root, the last match wins.
//!
//! Excluded means untouched on both sides; a scan reports an excluded name as opaque so that its parents survive.
//! Invariant: nothing below an excluded directory takes part, whatever later rules say (as in git), so a walk may stop there. A rule
//! that could never match is an error, so that nobody relies on it; its message tells where it stands and never what else stands there
//! (security rule SR3).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::glob::Glob;

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRule {
    /// The file or option it comes from.
    pub source: String,
    /// Its line there; 0 when there are no lines.
    pub line: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

impl std::fmt::Display for BadRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::path::escape(self.source.as_bytes(), f)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.why)
    }
}

impl std::error::Error for BadRule {}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// As written, without what a file adds around it; `!` included.
    text: Box<[u8]>,
    glob: Glob,
    /// `!`: takes part after all.
    includes: bool,
    /// `/` at the end.
    only_dirs: bool,
    /// No other `/`: compared with the last component.
    by_name: bool,
}

impl Pattern {
    fn new(text: &[u8]) -> Result<Self, &'static str> {
        let (includes, glob) = text.strip_prefix(b"!").map_or((false, text), |rest| (true, rest));
        let (only_dirs, glob) = glob.strip_suffix(b"/").map_or((false, glob), |rest| (true, rest));
        let by_name = !glob.contains(&b'/');
        let glob = glob.strip_prefix(b"/").unwrap_or(glob);
        if glob.is_empty() {
            return Err("the pattern is empty");
        }
        if glob.split(|&b| b == b'/').any(<[u8]>::is_empty) {
            return Err("a component of the pattern is empty");
        }
        Ok(Self {
            text: text.into(),
            glob: Glob::new(glob)?,
            includes,
            only_dirs,
            by_name,
        })
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.only_dirs && !is_dir {
            return false;
        }
        let name_at = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        self.glob
            .matches(if self.by_name { &path[name_at..] } else { path })
    }
}

/// An ordered list of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    patterns: Vec<Pattern>,
}

impl Filter {
    /// Reads lines of filter files, in order: where each comes from, its number there, its bytes without the line's end. Blank lines and
    /// lines that begin with `#` are skipped; blanks at the end count only after a backslash.
    pub fn parse<S: AsRef<str>, B: AsRef<[u8]>>(
        lines: impl IntoIterator<Item = (S, u64, B)>,
    ) -> Result<Self, BadRule> {
        let mut filter = Self::default();
        for (source, number, line) in lines {
            let line = line.as_ref();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = without_trailing_blanks(line);
            if !text.is_empty() && !line.starts_with(b"#") {
                filter.rule(source.as_ref(), number, text)?;
            }
        }
        Ok(filter)
    }

    /// Adds the rule of `--exclude` or, with `include`, of `--include`; nothing in it is a comment.
    pub fn option(&mut self, include: bool, pattern: &[u8]) -> Result<(), BadRule> {
        if include {
            self.rule("--include", 0, &[b"!", pattern].concat())
        } else {
            self.rule("--exclude", 0, pattern)
        }
    }

    /// Adds all rules of `other` after these.
    pub fn append(&mut self, other: Self) {
        self.patterns.extend(other.patterns);
    }

    /// The rules, to be kept or sent; [`Filter::from_rules`] reads them back.
    pub fn rules(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(|pattern| &*pattern.text)
    }

    /// Reads rules that [`Filter::rules`] gave.
    pub fn from_rules<B: AsRef<[u8]>>(rules: impl IntoIterator<Item = B>) -> Result<Self, BadRule> {
        let mut filter = Self::default();
        for (at, rule) in (1..).zip(rules) {
            filter.rule("rules", at, rule.as_ref())?;
        }
        Ok(filter)
    }

    /// True when there is no rule.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    fn rule(&mut self, source: &str, line: u64, text: &[u8]) -> Result<(), BadRule> {
        let pattern = Pattern::new(text).map_err(|why| BadRule {
            source: source.into(),
            line,
            why,
        })?;
        self.patterns.push(pattern);
        Ok(())
    }

    /// True when `path` (bytes, joined by `/`) does not take part, for itself or for a directory above it.
    pub fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        ends.map(|(end, _)| end)
            .any(|end| self.excludes_itself(&path[..end], true))
            || self.excludes_itself(path, is_dir)
    }

    /// The same for a walk that has asked for all directories above `path` already.
    pub fn excludes_itself(&self, path: &[u8], is_dir: bool) -> bool {
        let last = self
            .patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, is_dir));
        !path.is_empty() && last.is_some_and(|pattern| !pattern.includes)
    }
}

/// The lines of a filter file with their numbers, for [`Filter::parse`].
pub fn file_lines<'a>(
    source: &'a str,
    bytes: &'a [u8],
) -> impl Iterator<Item = (&'a str, u64, &'a [u8])> + 'a {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    (1..)
        .zip(bytes.split(|&b| b == b'\n'))
        .map(move |(number, line)| (source, number, line))
}

/// Blanks at the end of a line mean nothing, but for one behind a backslash.
fn without_trailing_blanks(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&b| b != b' ').map_or(0, |at| at + 1);
    let backslashes = line[..end].iter().rev().take_while(|&&b| b == b'\\').count();
    &line[..line.len().min(end + backslashes % 2)]
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rules().map(serde_bytes::Bytes::new))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rules = Vec::<serde_bytes::ByteBuf>::deserialize(deserializer)?;
        Self::from_rules(rules).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::parse(file_lines(".synclineignore", text.as_bytes())).unwrap()
    }

    #[test]
    fn the_last_match_wins_but_not_below_an_excluded_directory() {
        let rules = filter("# build products\n*.o\n!keep.o\n/out/\n!/out/wanted\n\nlogs/*.log\n");
        for (path, is_dir, expected) in [
            ("a.o", false, true),
            ("x/y/a.o", false, true),
            ("x/keep.o", false, false),
            ("out", true, true),
            ("out", false, false),
            ("out/wanted", false, true),
            ("x/out", true, false),
            ("logs/a.log", false, true),
            ("x/logs/a.log", false, false),
            ("", true, false),
        ] {
            assert_eq!(rules.excludes(path.as_bytes(), is_dir), expected, "{path}");
        }
        assert!(!Filter::default().excludes(b"anything", true));
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        let rules = filter("\u{feff}bom\ntrailing   \nkept\\ \ncr\r\n\\#hash\n\\!bang\n   \n");
        for name in ["bom", "trailing", "kept ", "cr", "#hash", "!bang"] {
            assert!(rules.excludes(name.as_bytes(), false), "{name:?}");
        }
        assert_eq!(rules.rules().count(), 6);
    }

    #[test]
    fn options_are_rules_in_order_and_hold_no_comments() {
        let mut rules = Filter::default();
        rules.option(false, b"#*").unwrap();
        rules.option(false, b"*.tmp").unwrap();
        rules.option(true, b"a.tmp").unwrap();
        assert!(rules.excludes(b"#x", false) && rules.excludes(b"b.tmp", false));
        assert!(!rules.excludes(b"a.tmp", false));
        let again = Filter::from_rules(rules.rules()).unwrap();
        assert_eq!(again, rules);
    }

    #[test]
    fn names_are_any_bytes() {
        let rules = Filter::parse([("f", 1, b"a\xff*".as_slice())]).unwrap();
        assert!(rules.excludes(b"a\xff\xfe", false));
        assert!(!rules.excludes("aÿ".as_bytes(), false));
    }

    #[test]
    fn sr3_a_bad_rule_is_named_by_file_and_line_and_never_quoted() {
        for (bad, why) in [
            ("secret[", "a bracket is not closed"),
            ("secret\\", "a backslash stands at the end"),
            ("!", "the pattern is empty"),
            ("/", "the pattern is empty"),
            ("secret//b", "a component of the pattern is empty"),
            ("[[:secret:]]", "a class of characters has no such name"),
        ] {
            let text = format!("fine\n{bad}\n");
            let error = Filter::parse(file_lines("my/rules", text.as_bytes())).unwrap_err();
            assert_eq!(error.to_string(), format!("my/rules:2: {why}"));
        }
        let mut rules = Filter::default();
        let error = rules.option(false, b"secret[").unwrap_err();
        assert_eq!(error.to_string(), "--exclude: a bracket is not closed");
    }
}
