//! All sessions of one shard, by place.
//!
//! Belongs to the shard's core. Invariant: a key names one session for ever, since the generation of a place is counted up with
//! each session that takes it.

use super::{Session, SessionKey};

#[derive(Default)]
struct Seat {
    generation: u32,
    session: Option<Box<Session>>,
    taken: bool,
}

/// The sessions of one shard. A session may be taken out while it runs commands, so that it and the shard can be borrowed
/// side by side; its seat stays reserved.
#[derive(Default)]
pub struct Sessions {
    seats: Vec<Seat>,
    free: Vec<u32>,
    len: usize,
}

impl Sessions {
    /// Seats a new session, which is made for its key.
    pub fn insert(&mut self, make: impl FnOnce(SessionKey) -> Session) -> SessionKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat::default());
            u32::try_from(self.seats.len() - 1).expect("descriptors are far fewer")
        });
        let seat = &mut self.seats[index as usize];
        seat.generation = seat.generation.wrapping_add(1);
        let key = SessionKey { index, generation: seat.generation };
        seat.session = Some(Box::new(make(key)));
        seat.taken = false;
        self.len += 1;
        key
    }

    /// The session of this key, if it is still here and not taken out.
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        let seat = self.seats.get(key.index as usize)?;
        if seat.generation == key.generation { seat.session.as_deref() } else { None }
    }

    /// As [`Sessions::get`], to change it.
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        let seat = self.seats.get_mut(key.index as usize)?;
        if seat.generation == key.generation { seat.session.as_deref_mut() } else { None }
    }

    /// Takes the session out to run its commands. It must be given back with [`Sessions::give_back`].
    pub fn take(&mut self, key: SessionKey) -> Option<Box<Session>> {
        let seat = self.seats.get_mut(key.index as usize)?;
        if seat.generation != key.generation {
            return None;
        }
        let session = seat.session.take()?;
        seat.taken = true;
        Some(session)
    }

    /// Puts a session back on its seat.
    pub fn give_back(&mut self, session: Box<Session>) {
        let seat = &mut self.seats[session.key.index as usize];
        assert!(seat.taken && seat.generation == session.key.generation, "only what was taken is given back");
        seat.taken = false;
        seat.session = Some(session);
    }

    /// Removes a session; its key will never name another. Its seat stays reserved until [`Sessions::release`], since a place
    /// in this table is also the place of the connection, on which something may still be in flight.
    pub fn remove(&mut self, key: SessionKey) -> Option<Box<Session>> {
        let seat = self.seats.get_mut(key.index as usize)?;
        if seat.generation != key.generation {
            return None;
        }
        let session = seat.session.take()?;
        self.len -= 1;
        Some(session)
    }

    /// Frees the seat of a session that was removed.
    pub fn release(&mut self, key: SessionKey) {
        let seat = &self.seats[key.index as usize];
        assert!(seat.session.is_none() && !seat.taken && seat.generation == key.generation, "the seat was vacated");
        self.free.push(key.index);
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All sessions that are not taken out.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.seats.iter().filter_map(|s| s.session.as_deref())
    }

    /// As [`Sessions::iter`], to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.seats.iter_mut().filter_map(|s| s.session.as_deref_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Now;

    fn seat(sessions: &mut Sessions, id: u64) -> SessionKey {
        sessions.insert(|key| Session::new(key, id, -1, String::new(), String::new(), false, Now::default()))
    }

    #[test]
    fn a_key_of_a_session_that_is_gone_names_nobody() {
        let mut s = Sessions::default();
        let a = seat(&mut s, 1);
        assert!(s.remove(a).is_some());
        let other = seat(&mut s, 9);
        assert_ne!(a.index, other.index, "the seat is reserved until it is released");
        s.remove(other);
        s.release(a);
        let b = seat(&mut s, 2);
        assert_eq!(a.index, b.index, "the seat is used again");
        assert!(s.get(a).is_none());
        assert!(s.take(a).is_none());
        assert_eq!(s.get(b).unwrap().id, 2);
        assert_eq!(s.len(), 1);
    }

    #[test]
    fn a_session_that_is_taken_out_comes_back_to_its_seat() {
        let mut s = Sessions::default();
        let a = seat(&mut s, 1);
        let session = s.take(a).unwrap();
        assert!(s.get(a).is_none());
        let b = seat(&mut s, 2);
        assert_ne!(a.index, b.index, "the seat stays reserved");
        s.give_back(session);
        assert_eq!(s.get(a).unwrap().id, 1);
    }
}
