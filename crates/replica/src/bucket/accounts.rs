//! The accounts of this machine: owners go into a bucket by number and name, and come back by name where there is one here (design D3).
//!
//! Invariant: a name that is not known here changes nothing: then the number stands.

use std::collections::BTreeMap;

use syncline_model::Owner;

/// Names of an owner and a group; empty: not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Of the owner.
    pub user: Box<[u8]>,
    /// Of the group.
    pub group: Box<[u8]>,
}

/// Numbers and names.
#[derive(Debug, Default)]
struct List {
    by_number: BTreeMap<u32, Box<[u8]>>,
    by_name: BTreeMap<Box<[u8]>, u32>,
}

impl List {
    /// Reads lines of `name:password:number:…`; of several with one name or number the first counts.
    fn parse(text: &[u8]) -> Self {
        let mut list = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let number = std::str::from_utf8(number)
                .ok()
                .and_then(|text| text.parse().ok());
            if let Some(number) = number.filter(|_| !name.is_empty()) {
                list.by_number.entry(number).or_insert_with(|| name.into());
                list.by_name.entry(name.into()).or_insert(number);
            }
        }
        list
    }

    fn name(&self, number: u32) -> Box<[u8]> {
        self.by_number.get(&number).cloned().unwrap_or_default()
    }

    fn number(&self, name: &[u8], else_number: u32) -> u32 {
        self.by_name.get(name).copied().unwrap_or(else_number)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Accounts {
    users: List,
    groups: List,
}

impl Accounts {
    /// From the texts of `/etc/passwd` and `/etc/group`.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: List::parse(passwd),
            groups: List::parse(group),
        }
    }

    /// What an owner of this machine is called; `None` where neither is known.
    pub(super) fn names(&self, owner: Owner) -> Option<Names> {
        let names = Names {
            user: self.users.name(owner.uid),
            group: self.groups.name(owner.gid),
        };
        (names != Names::default()).then_some(names)
    }

    /// Who that is on this machine.
    pub(super) fn here(&self, names: &Names, owner: Owner) -> Owner {
        Owner {
            uid: self.users.number(&names.user, owner.uid),
            gid: self.groups.number(&names.group, owner.gid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_go_by_name_then_by_number() {
        let there = Accounts::parse(b"anna:x:1000:1000::/home/anna:/bin/sh\n", b"staff:x:50:anna\n");
        let here = Accounts::parse(
            b"root:x:0:0::/:\nben:x:1000:1000::/:\nbroken\n:x:7:7\nanna:x:1001:1:\n",
            b"",
        );
        let owner = Owner { uid: 1000, gid: 50 };
        let names = there.names(owner).unwrap();
        assert_eq!(here.here(&names, owner), Owner { uid: 1001, gid: 50 });
        assert_eq!(there.here(&names, owner), owner);
        let stranger = Owner { uid: 4711, gid: 4711 };
        assert_eq!(there.names(stranger), None);
        assert_eq!(here.here(&Names::default(), stranger), stranger);
    }
}
