//! Identities. Every id is a ULID on the wire: 26 characters, sorted by creation.
//!
//! A run's id ends in 24 zero bits. What belongs to a run (its tasks, its transitions) is named by
//! the run's id plus an ordinal in those bits, so ids ascend in order of creation, a worker can name
//! a task before the server has seen it, and a task's id tells its run without an index.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::time::Timestamp;

/// Bits at the end of a run id that are left for ordinals.
const ORDINAL_BITS: u32 = 24;
/// Bits at the beginning of an id that tell the time, and how far they are shifted.
const TIME_BITS: u32 = 48;
const TIME_SHIFT: u32 = 80;
const ORDINAL_MASK: u128 = (1 << ORDINAL_BITS) - 1;
/// Tells transitions from tasks, the first of the ordinal bits.
const TRANSITION: u128 = 1 << (ORDINAL_BITS - 1);
/// Tasks, sleeps, waits and children that a run may have, of each.
pub(crate) const ORDINAL_LIMIT: u32 = (1 << (ORDINAL_BITS - 1)) - 1;

/// The text is not a ULID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 26 characters of Crockford base32 (a ULID)")]
pub struct ParseIdError(String);

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The id with these 128 bits.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits of the id.
            pub const fn to_bits(self) -> u128 {
                self.0
            }

            /// The 16 bytes of the id, most significant first: they sort as the id sorts.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0; ulid::ULID_LEN];
                f.write_str(Ulid(self.0).array_to_str(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Ulid::from_string(text)
                    .map(|ulid| Self(ulid.0))
                    .map_err(|_| ParseIdError(text.chars().take(64).collect()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut buffer = [0; ulid::ULID_LEN];
                serializer.serialize_str(Ulid(self.0).array_to_str(&mut buffer))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a ULID of 26 characters")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text).map_err(D::Error::custom)
            }
        }
    };
}

ulid_id! {
    /// Names one run of a workflow.
    RunId
}
ulid_id! {
    /// Names one schedule.
    ScheduleId
}
ulid_id! {
    /// Names one task of a run.
    TaskId
}
ulid_id! {
    /// Names one transition of a run or of a task, ascending in the order in which they happened.
    TransitionId
}

impl RunId {
    /// When the run was created, as far as its id tells: never before the runs created before it.
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis((self.0 >> TIME_SHIFT) as u64)
    }

    /// The lowest id that a run created at this time could have; the highest of all for times that no id can tell.
    pub fn first_at(time: Timestamp) -> Self {
        match time.as_millis() {
            millis if millis >> TIME_BITS == 0 => RunId(u128::from(millis) << TIME_SHIFT),
            _ => RunId(u128::MAX),
        }
    }

    /// The id of the task that this run opened as its `ordinal`-th, counted from 0.
    pub fn task(self, ordinal: u32) -> TaskId {
        TaskId(self.front() | (u128::from(ordinal) + 1) & (TRANSITION - 1))
    }

    /// The id of this run's `ordinal`-th transition, counted from 0.
    pub fn transition(self, ordinal: u32) -> TransitionId {
        TransitionId(self.front() | TRANSITION | (u128::from(ordinal) + 1) & (TRANSITION - 1))
    }

    /// Without the bits for ordinals, which are not zero in the ids of other servers.
    fn front(self) -> u128 {
        self.0 & !ORDINAL_MASK
    }
}

impl TaskId {
    /// The run that the task belongs to.
    pub fn run(self) -> RunId {
        RunId(self.0 & !ORDINAL_MASK)
    }

    /// The how-many-th task of its run this is, counted from 0.
    pub fn ordinal(self) -> u32 {
        match self.0 & ORDINAL_MASK {
            ordinal if ordinal < TRANSITION => (ordinal as u32).wrapping_sub(1),
            // The id of something else.
            _ => u32::MAX,
        }
    }
}

/// Makes run ids that only ever ascend, also within one millisecond and when the clock steps back.
#[derive(Debug, Default)]
pub struct RunIdSource {
    last: u128,
}

impl RunIdSource {
    /// A source that goes on behind `last`, the highest id made so far.
    pub fn after(last: RunId) -> Self {
        Self { last: last.0 }
    }

    /// The next id: `now` in the first 48 bits, then 56 bits of `entropy`, then the ordinal bits.
    /// When that would not ascend, the previous id plus one instead.
    pub fn next(&mut self, now: Timestamp, entropy: u64) -> RunId {
        let time = u128::from(now.as_millis() & ((1 << TIME_BITS) - 1)) << TIME_SHIFT;
        let chance = u128::from(entropy >> 8) << ORDINAL_BITS;
        let fresh = time | chance;
        self.last = if fresh > self.last { fresh } else { self.last + (1 << ORDINAL_BITS) };
        RunId(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_when_the_clock_steps_back() {
        let mut source = RunIdSource::default();
        let first = source.next(Timestamp::from_millis(2_000), u64::MAX);
        let second = source.next(Timestamp::from_millis(2_000), 0);
        let third = source.next(Timestamp::from_millis(1_000), 7);
        assert!(first < second && second < third);
        assert_eq!(third.to_bits() & ORDINAL_MASK, 0);
    }

    #[test]
    fn a_task_knows_its_run_and_its_place() {
        let run = RunIdSource::default().next(Timestamp::from_millis(1_795_416_117_886), 0xDEAD_BEEF_0000_0100);
        let tasks: Vec<_> = (0..3).map(|n| run.task(n)).collect();
        assert!(tasks.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(tasks[2].run(), run);
        assert_eq!(tasks[2].ordinal(), 2);
    }

    #[test]
    fn the_tasks_of_another_servers_run_have_their_places_all_the_same() {
        let run: RunId = "01M83JF4J42GJARAP9WKVZCHBB".parse().unwrap();
        assert_ne!(run.to_bits() & ORDINAL_MASK, 0);
        assert_eq!([0, 1, 7].map(|ordinal| run.task(ordinal).ordinal()), [0, 1, 7]);
        assert!(run.transition(0) < run.transition(1));
    }

    #[test]
    fn no_task_has_the_id_of_a_transition() {
        let run = RunIdSource::default().next(Timestamp::from_millis(1_795_416_117_886), 7 << 8);
        let transitions: Vec<_> = (0..3).map(|n| run.transition(n).to_bits()).collect();
        assert!(transitions.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((0..3).all(|n| !transitions.contains(&run.task(n).to_bits())));
        let mistaken = TaskId::from_bits(transitions[0]);
        assert_eq!((mistaken.run(), mistaken.ordinal()), (run, u32::MAX));
    }

    #[test]
    fn text_form_round_trips_and_sorts_like_the_id() {
        let run = RunIdSource::default().next(Timestamp::from_millis(1), 9 << 8);
        assert_eq!(run.to_string().len(), 26);
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        assert!(run.task(0).to_string() < run.task(1).to_string());
        assert!("not-an-id".parse::<RunId>().is_err());
    }
}
