//! Values that a person types or keeps in a file: rates, times, brakes, policies.
//!
//! Invariant: each has one spelling that it prints and reads again, so that what `init` keeps is what was typed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use syncline_model::{Mode, Pair, Policy, Side, replica::Links};
use syncline_replica::Durability;
use syncline_sync::{Keep, MaxDelete};

/// Serialises through `Display` and reads through `FromStr`.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text: String = serde::Deserialize::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// A value with a fixed set of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident($inner:ty) { $($word:literal => $value:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self($value)),)*
                    _ => Err(format!("one of {}", [$($word),*].join(", "))),
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if self.0 == $value { return f.write_str($word); })*
                Ok(())
            }
        }
        as_text!($name);
    };
}

words! {
    /// `--mode`.
    ModeWord(Mode) { "two-way" => Mode::TwoWay, "mirror" => Mode::Mirror, "copy" => Mode::Copy }
}
words! {
    /// `--durability`.
    DurabilityWord(Durability) { "batch" => Durability::Batch, "file" => Durability::File, "none" => Durability::None }
}
words! {
    /// `--links`.
    LinksWord(Links) { "keep" => Links::Keep, "follow" => Links::Follow, "skip" => Links::Skip }
}
words! {
    /// `--accept`.
    SideWord(Side) { "left" => Side::Left, "right" => Side::Right }
}
words! {
    /// `--skip-deletes`.
    SidesWord(Pair<bool>) {
        "left" => Pair { left: true, right: false },
        "right" => Pair { left: false, right: true },
        "both" => Pair { left: true, right: true },
    }
}
words! {
    /// `--keep` of `resolve`.
    KeepWord(Keep) {
        "left" => Keep::Side(Side::Left), "right" => Keep::Side(Side::Right), "both" => Keep::Both,
        "newest" => Keep::Newest, "largest" => Keep::Largest,
    }
}

/// `--conflict`: a policy, or a command that is tried first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflictRule {
    /// A policy.
    Policy(Policy),
    /// A command that merges two files; where it fails both stay.
    Merge(String),
}

const POLICIES: [(&str, Policy); 6] = [
    ("keep-both", Policy::KeepBoth),
    ("newest", Policy::Newest),
    ("left", Policy::Left),
    ("right", Policy::Right),
    ("largest", Policy::Largest),
    ("hold", Policy::Hold),
];

impl FromStr for ConflictRule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(command) = text.strip_prefix("merge=") {
            return match command.trim() {
                "" => Err("merge= wants a command".into()),
                command => crate::merger::words(command).map(|_| Self::Merge(command.to_string())),
            };
        }
        POLICIES
            .iter()
            .find(|(word, _)| *word == text)
            .map(|&(_, policy)| Self::Policy(policy))
            .ok_or_else(|| "one of keep-both, newest, left, right, largest, hold, merge=CMD".into())
    }
}

impl fmt::Display for ConflictRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Merge(command) => write!(f, "merge={command}"),
            Self::Policy(policy) => {
                let word = POLICIES
                    .iter()
                    .find(|(_, p)| p == policy)
                    .map_or("keep-both", |(word, _)| *word);
                f.write_str(word)
            }
        }
    }
}

/// `--max-delete`: a brake by number or by share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake(pub MaxDelete);

impl FromStr for Brake {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a number, a share such as 20%, or none".to_string();
        if text == "none" {
            return Ok(Self(MaxDelete::None));
        }
        if let Some(share) = text.strip_suffix('%') {
            let share: u8 = share.parse().map_err(|_| wrong())?;
            return if share <= 100 {
                Ok(Self(MaxDelete::Percent(share)))
            } else {
                Err(wrong())
            };
        }
        text.parse()
            .map(|count| Self(MaxDelete::Count(count)))
            .map_err(|_| wrong())
    }
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MaxDelete::Default => Ok(()),
            MaxDelete::Count(count) => write!(f, "{count}"),
            MaxDelete::Percent(share) => write!(f, "{share}%"),
            MaxDelete::None => f.write_str("none"),
        }
    }
}

/// `--bandwidth`: bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "bytes a second, such as 500K, 10M or 1.5MiB/s".to_string();
        let text = text.trim().trim_end_matches("/s");
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let rate = number * factor as f64;
        if (1.0..1e15).contains(&rate) {
            Ok(Self(rate as u64))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `--time-limit`: seconds, or a friendly span such as `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a time such as 90s, 10m or 1h30m".to_string();
        if let Ok(seconds) = text.trim().parse::<f64>() {
            let time = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
            return if time.is_zero() {
                Err(wrong())
            } else {
                Ok(Self(time))
            };
        }
        let signed: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
        match Duration::try_from(signed) {
            Ok(time) if !time.is_zero() => Ok(Self(time)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

as_text!(ConflictRule, Brake, Rate, Span);

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T: FromStr + fmt::Display>(texts: &[&str]) {
        for text in texts {
            let value: T = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(value.to_string(), *text);
        }
    }

    fn refuses<T: FromStr>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_value_prints_what_it_reads() {
        reads::<ModeWord>(&["two-way", "mirror", "copy"]);
        reads::<SidesWord>(&["left", "right", "both"]);
        reads::<KeepWord>(&["left", "right", "both", "newest", "largest"]);
        reads::<ConflictRule>(&[
            "keep-both",
            "newest",
            "left",
            "right",
            "largest",
            "hold",
            "merge=diff3 -m",
        ]);
        reads::<Brake>(&["0", "500", "20%", "none"]);
        reads::<Rate>(&["1", "4096"]);
        reads::<Span>(&["90", "0.5"]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        refuses::<ModeWord>(&["", "Mirror", "both"]);
        refuses::<ConflictRule>(&["merge=", "merge= ", "merge", "keep"]);
        refuses::<Brake>(&["", "-1", "101%", "%", "all", "1.5"]);
        refuses::<Rate>(&["", "0", "-5", "5 bananas", "1e30", "M"]);
        refuses::<Span>(&["", "0", "-1", "soon", "0s", "-5m", "NaN"]);
    }

    #[test]
    fn units_of_rates_and_times() {
        assert_eq!("1.5MiB/s".parse(), Ok(Rate(1_572_864)));
        assert_eq!("10M".parse(), Ok(Rate(10 << 20)));
        assert_eq!("2 kb".parse(), Ok(Rate(2_000)));
        assert_eq!("1h30m".parse(), Ok(Span(Duration::from_secs(5_400))));
        assert_eq!("10m".parse(), Ok(Span(Duration::from_secs(600))));
    }
}
