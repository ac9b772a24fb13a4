//! What clients did and saw: the input of the checker.
//!
//! One `Operation` is one command, or one EXEC with all that it did; everything in it is claimed to happen at one instant between
//! `invoked` and `completed`. What it did is told in `Micro` steps, in the order of its commands. Numbers stand for names: list 3 is
//! the key `l3`, register 3 is `r3`, place 3 is `q3` or `s3`. Values are unique over a whole history, so that whoever sees one
//! knows who made it.

use std::fmt;

/// What an operation did to one key, or saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Micro {
    /// An element was put at the end of a list that is only ever appended to.
    Append { key: u32, element: u32 },
    /// The whole of such a list.
    List { key: u32, elements: Box<[u32]> },
    /// A register was given this value.
    Write { key: u32, value: u32 },
    /// A register had this value; `NOTHING` if it was not there.
    Read { key: u32, value: u32 },
    /// An element came to a place (a queue or a set). It never comes to the same place twice.
    Put { place: u32, element: u32 },
    /// An element left a place, and this operation got it.
    Take { place: u32, element: u32 },
    /// The whole of a place.
    See { place: u32, elements: Box<[u32]> },
}

/// The value of a register before its first write.
pub const NOTHING: u32 = 0;

/// The instant of what never ended.
pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered: all its steps happened.
    Done,
    /// It was refused (an EXEC after a touched WATCH): none of its steps may be seen.
    Aborted,
    /// The client went away before the answer: all of them or none.
    Unknown,
}

/// One atomic action of one client. Instants are nanoseconds of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: u32,
    pub invoked: u64,
    pub completed: u64,
    pub outcome: Outcome,
    pub steps: Vec<Micro>,
}

impl fmt::Display for Micro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Micro::Append { key, element } => write!(f, "append {element} to l{key}"),
            Micro::List { key, elements } => write!(f, "l{key} is {}", ends(elements)),
            Micro::Write { key, value } => write!(f, "r{key} := {value}"),
            Micro::Read { key, value: NOTHING } => write!(f, "r{key} is not there"),
            Micro::Read { key, value } => write!(f, "r{key} is {value}"),
            Micro::Put { place, element } => write!(f, "put {element} into q{place}"),
            Micro::Take { place, element } => write!(f, "take {element} out of q{place}"),
            Micro::See { place, elements } => write!(f, "q{place} holds {}", ends(elements)),
        }
    }
}

/// Long lists by their ends.
fn ends(elements: &[u32]) -> String {
    if elements.len() <= 40 {
        return format!("{elements:?}");
    }
    let (first, last) = (&elements[..3], &elements[elements.len() - 12..]);
    format!("[{} elements: {first:?} … {last:?}]", elements.len())
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |instant: u64| instant as f64 / 1000.0;
        write!(f, "client {} from {:.1} µs ", self.client, micros(self.invoked))?;
        match self.completed {
            NEVER => write!(f, "without an end")?,
            completed => write!(f, "to {:.1} µs", micros(completed))?,
        }
        match self.outcome {
            Outcome::Done => {}
            Outcome::Aborted => write!(f, " (aborted)")?,
            Outcome::Unknown => write!(f, " (outcome unknown)")?,
        }
        let steps: Vec<String> = self.steps.iter().map(Micro::to_string).collect();
        write!(f, ": {}", steps.join(", "))
    }
}
