//! One gitignore pattern over bytes: `*`, `?`, `[...]`, `**`, `\`.
//!
//! Invariant: matching takes time proportional to pattern × name, whatever the pattern (no backtracking), and a pattern that git would
//! silently never match is refused by [`Glob::new`] instead.

/// Longest pattern that is accepted, in bytes.
const PATTERN_MAX: usize = 4096;

/// The bytes that a bracket expression stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class([u64; 4]);

impl Class {
    fn set(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: any byte but `/`.
    Any,
    /// Never `/`.
    OneOf(Box<Class>),
    /// `*`: any bytes but `/`.
    Star,
    /// `**` at the end: any bytes.
    Deep,
    /// `**/`: nothing, or any bytes and a `/`. Two tokens, this one and [`Token::DirsInside`].
    Dirs,
    DirsInside,
}

/// A pattern, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// The literal beginning, compared first because it settles most names.
    prefix: Vec<u8>,
    rest: Vec<Token>,
    /// The literal end that follows the only `*` of the pattern, when that is all of `rest`.
    suffix: Option<Vec<u8>>,
}

impl Glob {
    /// Reads `pattern`; the error says why it could never match.
    pub(crate) fn new(pattern: &[u8]) -> Result<Self, &'static str> {
        if pattern.len() > PATTERN_MAX {
            return Err("the pattern is too long");
        }
        if pattern.contains(&0) {
            return Err("the pattern holds a NUL byte");
        }
        let tokens = tokens(pattern)?;
        let literal = tokens.iter().take_while(|t| matches!(t, Token::Byte(_))).count();
        let bytes_of = |tokens: &[Token]| -> Option<Vec<u8>> {
            tokens
                .iter()
                .map(|t| if let Token::Byte(b) = t { Some(*b) } else { None })
                .collect()
        };
        let prefix = bytes_of(&tokens[..literal]).unwrap_or_default();
        let rest = tokens[literal..].to_vec();
        let suffix = match rest.split_first() {
            Some((Token::Star, tail)) => bytes_of(tail).filter(|bytes| !bytes.contains(&b'/')),
            _ => None,
        };
        Ok(Self { prefix, rest, suffix })
    }

    /// Whether `text` as a whole is meant.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(text) = text.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        if self.rest.is_empty() {
            return text.is_empty();
        }
        if let Some(suffix) = &self.suffix {
            return text
                .strip_suffix(suffix.as_slice())
                .is_some_and(|star| !star.contains(&b'/'));
        }
        self.simulate(text)
    }

    /// Runs all readings of the pattern at once; `live[i]`: the tokens before `i` can have matched so far.
    fn simulate(&self, text: &[u8]) -> bool {
        let mut live = vec![false; self.rest.len() + 1];
        let mut next = live.clone();
        self.reach(&mut live, 0);
        for &byte in text {
            next.fill(false);
            let mut any = false;
            for (at, token) in self.rest.iter().enumerate().filter(|(at, _)| live[*at]) {
                any = true;
                self.step(at, token, byte, &mut next);
            }
            if !any {
                return false;
            }
            std::mem::swap(&mut live, &mut next);
        }
        live[self.rest.len()]
    }

    fn step(&self, at: usize, token: &Token, byte: u8, next: &mut [bool]) {
        let goes_on = match token {
            Token::Byte(b) => *b == byte,
            Token::Any => byte != b'/',
            Token::OneOf(class) => class.has(byte),
            Token::Star | Token::Deep => {
                if byte != b'/' || *token == Token::Deep {
                    self.reach(next, at);
                }
                false
            }
            Token::Dirs => false,
            Token::DirsInside => {
                next[at] = true;
                byte == b'/'
            }
        };
        if goes_on {
            self.reach(next, at + 1);
        }
    }

    /// Marks `at` and all that is reached from there without a byte.
    fn reach(&self, live: &mut [bool], mut at: usize) {
        loop {
            live[at] = true;
            match self.rest.get(at) {
                Some(Token::Star | Token::Deep) => at += 1,
                Some(Token::Dirs) => {
                    live[at + 1] = true;
                    at += 2;
                }
                _ => return,
            }
        }
    }
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'\\' => {
                let escaped = pattern.get(at + 1).ok_or("a backslash stands at the end")?;
                tokens.push(Token::Byte(*escaped));
                at += 2;
            }
            b'?' => {
                tokens.push(Token::Any);
                at += 1;
            }
            b'[' => {
                let (class, end) = class(pattern, at + 1)?;
                tokens.push(Token::OneOf(Box::new(class)));
                at = end;
            }
            b'*' => at = stars(pattern, at, &mut tokens),
            _ => {
                tokens.push(Token::Byte(byte));
                at += 1;
            }
        }
    }
    Ok(tokens)
}

/// Reads the stars that begin at `start`; two or more cross directories only where they fill a whole component.
fn stars(pattern: &[u8], start: usize, tokens: &mut Vec<Token>) -> usize {
    let end = start + pattern[start..].iter().take_while(|&&b| b == b'*').count();
    let whole = end - start > 1 && (start == 0 || pattern[start - 1] == b'/');
    match pattern.get(end) {
        None if whole => tokens.push(Token::Deep),
        Some(b'/') if whole => {
            tokens.extend([Token::Dirs, Token::DirsInside]);
            return end + 1;
        }
        _ => tokens.push(Token::Star),
    }
    end
}

/// Reads a bracket expression whose `[` stands before `at`; returns it and where it ends.
fn class(pattern: &[u8], mut at: usize) -> Result<(Class, usize), &'static str> {
    const OPEN: &str = "a bracket is not closed";
    let mut class = Class([0; 4]);
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    // The last byte of the set, which a `-` after it makes the beginning of a range.
    let mut low = None;
    loop {
        let byte = *pattern.get(at).ok_or(OPEN)?;
        match byte {
            b']' if at > first => break,
            b'\\' => {
                let escaped = *pattern.get(at + 1).ok_or(OPEN)?;
                class.set(escaped);
                low = Some(escaped);
                at += 2;
            }
            b'-' if low.is_some() && !matches!(pattern.get(at + 1), None | Some(b']')) => {
                let mut high = pattern[at + 1];
                at += 2;
                if high == b'\\' {
                    high = *pattern.get(at).ok_or(OPEN)?;
                    at += 1;
                }
                (low.unwrap_or(high)..=high).for_each(|b| class.set(b));
                low = None;
            }
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let length = pattern[at + 2..].iter().position(|&b| b == b']').ok_or(OPEN)?;
                if let Some(name) = pattern[at + 2..at + 2 + length].strip_suffix(b":") {
                    let is_in = named_class(name).ok_or("a class of characters has no such name")?;
                    (0..=u8::MAX).filter(is_in).for_each(|b| class.set(b));
                    low = None;
                    at += 2 + length + 1;
                } else {
                    class.set(byte);
                    low = Some(byte);
                    at += 1;
                }
            }
            _ => {
                class.set(byte);
                low = Some(byte);
                at += 1;
            }
        }
    }
    if negated {
        class.0.iter_mut().for_each(|word| *word = !*word);
    }
    class.0[usize::from(b'/' >> 6)] &= !(1 << (b'/' & 63));
    Ok((class, at + 1))
}

fn named_class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| (0x20..0x7f).contains(b),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | 9..=13),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn stars_cross_directories_only_as_whole_components() {
        for (pattern, text, expected) in [
            ("*.c", "a.c", true),
            ("*.c", "a/b.c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**/b", "b", true),
            ("**/b", "x/y/b", true),
            ("**/b", "xb", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "ab", false),
            ("x**y", "x/y", false),
            ("x**y", "xzzy", true),
            ("**/*.o/**", "a/b.o/c/d", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn brackets_are_read_as_git_reads_them() {
        for (pattern, text, expected) in [
            ("[]-]", "]", true),
            ("[]-]", "-", true),
            ("[a-c]", "b", true),
            ("[!a-c]", "b", false),
            ("[^a]", "/", false),
            ("[[:digit:]x]", "7", true),
            ("[\\]]", "]", true),
            ("[a-]", "-", true),
            ("[c-a]", "b", false),
            ("[[:]", ":", true),
        ] {
            if let Ok(glob) = Glob::new(pattern.as_bytes()) {
                assert_eq!(glob.matches(text.as_bytes()), expected, "{pattern} {text}");
            } else {
                panic!("{pattern}");
            }
        }
    }

    #[test]
    fn sl4_many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(1000) + "b";
        assert!(!matches(&pattern, &"a".repeat(4000)));
        let deep = "**/a/".repeat(300) + "b";
        assert!(!matches(&deep, &"a/".repeat(2000)));
    }
}
