//! The merge's specification once more, as naively as it can be written: recursive, over whole trees, without order or memory bounds.
//!
//! Written from the specification alone (header of `merge.rs`, design D3); it shares no code with the merge.

use std::collections::BTreeMap;

use syncline_model::conflict_name::conflict_name;
use syncline_model::{Digest, Name, Policy, Side};

/// A tree below one name. Leaves hold a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    None,
    Leaf(u8),
    Dir(BTreeMap<Vec<u8>, Node>),
}

/// What stands at one name afterwards; `copies` lie beside it, everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    pub left: Node,
    pub right: Node,
    pub base: Node,
    pub copies: Vec<(Vec<u8>, u8)>,
}

impl After {
    fn agreed(node: Node) -> Self {
        Self {
            left: node.clone(),
            right: node.clone(),
            base: node,
            copies: Vec::new(),
        }
    }
}

pub struct Oracle {
    pub policy: Policy,
    /// Which of two edited leaves keeps its name under keep-both.
    pub keeps_name: fn(u8, u8) -> u8,
    pub digest: fn(u8) -> Digest,
}

impl Oracle {
    pub fn merge(&self, name: &[u8], base: &Node, left: &Node, right: &Node) -> After {
        use Node::{Dir, Leaf, None};
        let deleted = |changed: &Node| {
            // One side has nothing: what the other side changed stays, what it left alone goes.
            if changed == base { None } else { changed.clone() }
        };
        match (left, right) {
            (None, None) => After::agreed(None),
            (Leaf(l), Leaf(r)) if l == r => After::agreed(Leaf(*l)),
            (Leaf(_), Leaf(r)) if left == base => After::agreed(Leaf(*r)),
            (Leaf(l), Leaf(_)) if right == base => After::agreed(Leaf(*l)),
            (Leaf(l), Leaf(r)) => self.edited(name, base, *l, *r),
            (Leaf(_), None) => After::agreed(deleted(left)),
            (None, Leaf(_)) => After::agreed(deleted(right)),
            (Dir(_), None) | (None, Dir(_)) => {
                let after = self.children(base, left, right);
                match (&after.left, base) {
                    // A directory that the base knew goes when nothing in it stays; a new one is a change itself.
                    (Dir(children), Dir(_)) if children.is_empty() => After::agreed(None),
                    _ => after,
                }
            }
            (Dir(_), Dir(_)) => self.children(base, left, right),
            (Leaf(leaf), Dir(_)) => self.kinds(name, base, left, right, (Side::Left, *leaf)),
            (Dir(_), Leaf(leaf)) => self.kinds(name, base, left, right, (Side::Right, *leaf)),
        }
    }

    /// A directory of what is below, each name for itself. What is no directory has nothing below.
    fn children(&self, base: &Node, left: &Node, right: &Node) -> After {
        let below = |node: &Node| {
            if let Node::Dir(children) = node {
                children.clone()
            } else {
                BTreeMap::new()
            }
        };
        let (base, left, right) = (below(base), below(left), below(right));
        let names: std::collections::BTreeSet<_> = base
            .keys()
            .chain(left.keys())
            .chain(right.keys())
            .cloned()
            .collect();
        let mut out = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
        for name in names {
            let get = |children: &BTreeMap<Vec<u8>, Node>| children.get(&name).cloned().unwrap_or(Node::None);
            let after = self.merge(&name, &get(&base), &get(&left), &get(&right));
            for (out, node) in out.iter_mut().zip([after.left, after.right, after.base]) {
                if node != Node::None {
                    out.insert(name.clone(), node);
                }
                for (copy, leaf) in &after.copies {
                    out.insert(copy.clone(), Node::Leaf(*leaf));
                }
            }
        }
        let [left, right, base] = out.map(Node::Dir);
        After {
            left,
            right,
            base,
            copies: Vec::new(),
        }
    }

    fn edited(&self, name: &[u8], base: &Node, left: u8, right: u8) -> After {
        // Letters rise with their sizes and times.
        let winner = match self.policy {
            Policy::Left => left,
            Policy::Right => right,
            Policy::Newest | Policy::Largest => left.max(right),
            Policy::KeepBoth => (self.keeps_name)(left, right),
            Policy::Hold => {
                return After {
                    left: Node::Leaf(left),
                    right: Node::Leaf(right),
                    // A directory that neither side has any more is agreed to be gone.
                    base: if matches!(base, Node::Leaf(_)) {
                        base.clone()
                    } else {
                        Node::None
                    },
                    copies: Vec::new(),
                };
            }
        };
        let mut after = After::agreed(Node::Leaf(winner));
        if self.policy == Policy::KeepBoth {
            let (loser, side) = if winner == left {
                (right, Side::Right)
            } else {
                (left, Side::Left)
            };
            after.copies.push((self.copy_name(name, side, loser), loser));
        }
        after
    }

    /// A leaf on one side, a directory on the other.
    fn kinds(&self, name: &[u8], base: &Node, left: &Node, right: &Node, leaf: (Side, u8)) -> After {
        let (side, letter) = leaf;
        let (leaf, dir) = if side == Side::Left {
            (left, right)
        } else {
            (right, left)
        };
        let dir_after = {
            let (l, r) = if side == Side::Left {
                (&Node::None, dir)
            } else {
                (dir, &Node::None)
            };
            self.children(base, l, r)
        };
        if leaf == base {
            return dir_after;
        }
        let emptied = dir_after.left == Node::Dir(BTreeMap::new());
        if matches!(base, Node::Dir(_)) && emptied {
            return After::agreed(leaf.clone());
        }
        let leaf_wins = match self.policy {
            Policy::Left => Some(side == Side::Left),
            Policy::Right => Some(side == Side::Right),
            Policy::KeepBoth | Policy::Newest | Policy::Largest => None,
            Policy::Hold => {
                return After {
                    left: left.clone(),
                    right: right.clone(),
                    base: base.clone(),
                    copies: Vec::new(),
                };
            }
        };
        match leaf_wins {
            Some(true) => After::agreed(leaf.clone()),
            Some(false) => dir_after,
            None => After {
                copies: vec![(self.copy_name(name, side, letter), letter)],
                ..dir_after
            },
        }
    }

    fn copy_name(&self, name: &[u8], side: Side, letter: u8) -> Vec<u8> {
        let name = Name::new(name).unwrap();
        conflict_name(&name, side.name(), &(self.digest)(letter))
            .as_bytes()
            .to_vec()
    }
}
