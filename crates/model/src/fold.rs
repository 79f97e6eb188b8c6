//! Which names a place takes for one: letters of either case, composed and decomposed characters.
//!
//! Invariant: names that a file system takes for one have one folded form here. The reverse need not hold: a fold that is wider than that
//! of a file system costs a problem that need not be, never a file.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;

use crate::replica::Profile;

/// What a place does not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Folding {
    /// "A" and "a".
    pub case: bool,
    /// "é" as one character and as two.
    pub forms: bool,
}

impl Folding {
    /// What this replica does not tell apart.
    pub fn of(profile: &Profile) -> Self {
        Self {
            case: profile.folds_case,
            forms: profile.normalises,
        }
    }

    /// What either of the two does not tell apart.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            case: self.case || other.case,
            forms: self.forms || other.forms,
        }
    }

    /// True when some names are one.
    pub fn any(self) -> bool {
        self.case || self.forms
    }

    /// The form that all names share which are one name or one path. Bytes that are no UTF-8 stay.
    pub fn fold(self, path: &[u8]) -> Vec<u8> {
        if !self.any() || (path.is_ascii() && !self.case) {
            return path.to_vec();
        }
        if path.is_ascii() {
            return path.to_ascii_lowercase();
        }
        let mut folded = Vec::with_capacity(path.len());
        for chunk in path.utf8_chunks() {
            folded.extend_from_slice(self.text(chunk.valid()).as_bytes());
            folded.extend_from_slice(chunk.invalid());
        }
        folded
    }

    /// Decomposed before its case is folded, and after: a capital may be known by another form only.
    fn text(self, text: &str) -> Cow<'_, str> {
        let forms = DecomposingNormalizerBorrowed::new_nfd();
        let decomposed = forms.normalize(text);
        if !self.case {
            return decomposed;
        }
        let small: String = decomposed
            .chars()
            .flat_map(char::to_uppercase)
            .flat_map(char::to_lowercase)
            .collect();
        Cow::Owned(forms.normalize(&small).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Folding = Folding {
        case: true,
        forms: false,
    };
    const FORMS: Folding = Folding {
        case: false,
        forms: true,
    };

    #[test]
    fn s17_names_that_a_file_system_takes_for_one_fold_to_one() {
        for (a, b) in [
            ("Readme", "README"),
            ("É", "é"),
            ("Straße", "STRASSE"),
            ("ΣΑΣ", "σας"),
            ("d/X", "D/x"),
        ] {
            assert_eq!(CASE.fold(a.as_bytes()), CASE.fold(b.as_bytes()), "{a} {b}");
        }
        assert_eq!(FORMS.fold("é".as_bytes()), FORMS.fold("e\u{301}".as_bytes()));
        assert_ne!(FORMS.fold(b"A"), FORMS.fold(b"a"));
        assert_ne!(CASE.fold(b"a"), CASE.fold(b"b"));
        let plain = Folding::default();
        assert_eq!(plain.fold("É".as_bytes()), "É".as_bytes());
    }

    #[test]
    fn what_is_no_text_stays() {
        assert_eq!(CASE.fold(b"A\xffB"), b"a\xffb");
        assert_ne!(CASE.fold(b"\xc3"), CASE.fold(b"\xe3"));
    }

    #[test]
    fn no_name_grows_a_slash() {
        for c in '\0'..=char::MAX {
            if c != '/' {
                let folded = CASE.or(FORMS).fold(c.to_string().as_bytes());
                assert!(!folded.contains(&b'/') && !folded.is_empty(), "{c:?}");
            }
        }
    }
}
