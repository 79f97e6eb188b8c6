//! A reply's XML as a small tree.
//!
//! Invariant: text is kept exactly, blanks too; nothing is expanded but the five named entities and characters by
//! number, so no document grows while it is read; depth and number of elements are bounded (the caller bounds bytes).

use quick_xml::Reader;
use quick_xml::events::Event;
use syncline_model::{Fault, Kind, Result};

const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 200_000;

/// One element.
#[derive(Debug, Default)]
pub(crate) struct Node {
    name: String,
    text: String,
    children: Vec<Node>,
}

impl Node {
    /// Reads a document and returns its root.
    pub(crate) fn read(bytes: &[u8]) -> Result<Node> {
        let wrong =
            |why: String| Fault::new(Kind::Corrupt, format!("the reply is no XML: {why}"), "").retry(true);
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let mut reader = Reader::from_str(text);
        let mut open = vec![Node::default()];
        let mut nodes = 0;
        loop {
            let event = reader.read_event().map_err(|error| wrong(error.to_string()))?;
            let added = match event {
                Event::Start(start) => {
                    nodes += 1;
                    let name = start.local_name().as_ref().to_string();
                    open.push(Node {
                        name,
                        ..Node::default()
                    });
                    if open.len() > DEPTH_MAX || nodes > NODES_MAX {
                        return Err(wrong("too deep or too many elements".into()));
                    }
                    continue;
                }
                Event::Empty(start) => {
                    nodes += 1;
                    let name = start.local_name().as_ref().to_string();
                    if let Some(parent) = open.last_mut() {
                        parent.children.push(Node {
                            name,
                            ..Node::default()
                        });
                    }
                    continue;
                }
                Event::End(_) => {
                    let (Some(done), Some(parent)) = (open.pop(), open.last_mut()) else {
                        return Err(wrong("an element ends that never began".into()));
                    };
                    parent.children.push(done);
                    continue;
                }
                Event::Text(text) => text.to_string(),
                Event::CData(text) => text.to_string(),
                Event::GeneralRef(entity) => match entity.resolve_char_ref() {
                    Ok(Some(char)) => char.to_string(),
                    _ => match quick_xml::escape::resolve_predefined_entity(&entity) {
                        Some(text) => text.to_string(),
                        None => return Err(wrong("an unknown entity".into())),
                    },
                },
                Event::Eof => break,
                _ => continue,
            };
            if let Some(node) = open.last_mut() {
                node.text.push_str(&added);
            }
        }
        let (Some(mut top), true) = (open.pop(), open.is_empty()) else {
            return Err(wrong("it breaks off".into()));
        };
        top.children.pop().ok_or_else(|| wrong("it is empty".into()))
    }

    /// Its name without a name space.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> + 'a {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of that name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// Its own text.
    #[cfg(test)]
    pub(crate) fn own_text(&self) -> &str {
        &self.text
    }
}

/// True when XML 1.0 can carry `text` and no parser will trim or fold it.
pub(crate) fn carries(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{85}');
    text.chars().all(plain) && text.trim() == text
}

/// Escapes text for an element.
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_text_exactly() {
        let node = Node::read(
            b"<?xml version=\"1.0\"?>\n<r xmlns=\"u\"><k> a&amp;b &#x1f600;&#9;</k><k/><k>2</k></r>",
        )
        .unwrap();
        let texts: Vec<&str> = node.all("k").map(Node::own_text).collect();
        assert_eq!(texts, [" a&b \u{1f600}\t", "", "2"]);
        assert_eq!(node.name(), "r");
    }

    #[test]
    fn entity_bombs_broken_and_deep_documents_are_refused() {
        let bomb = b"<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><r>&b;</r>";
        assert!(Node::read(bomb).is_err());
        assert!(Node::read(b"<r><k>").is_err());
        assert!(Node::read(b"").is_err());
        assert!(Node::read(b"<r>\xff</r>").is_err());
        assert!(Node::read("<a>".repeat(100).as_bytes()).is_err());
        assert!(carries("a b/c&<") && !carries(" a") && !carries("a\u{1}") && !carries("a\n"));
    }
}
