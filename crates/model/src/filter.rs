//! Which paths take part: rules in gitignore syntax, anchored at the root, the last match wins.
//!
//! Excluded means untouched on both sides; a scan reports an excluded name as opaque so that its parents survive.

/// An ordered list of rules.
#[derive(Debug, Clone, Default)]
pub struct Filter {}

impl Filter {
    /// True when `path` (bytes, joined by `/`) does not take part.
    pub fn excludes(&self, _path: &[u8], _is_dir: bool) -> bool {
        false
    }
}
