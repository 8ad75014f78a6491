//! The processes that train one model together: who is who, and the few things they say to each other.
//!
//! Numbers are never added up by the network. Processes only hand bytes on; sums are made by whoever needs them, in an order
//! that does not depend on how many processes there are ([`crate::Shards`]).

use crate::TrainError;
use std::{
    cell::Cell,
    fmt,
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

/// How bytes get from one process to another.
pub trait Link {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;
    /// How many processes there are.
    fn world(&self) -> usize;
    /// Sends bytes to one process while it receives as many as `received` has room for from another.
    ///
    /// # Errors
    /// The reason why the other process cannot be reached.
    fn swap(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String>;
    /// Ends all processes at once: this one cannot go on, and others may be waiting for it.
    fn abort(&self, exit_code: i32);
}

/// What was said between processes, as one of them sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    /// Bytes that this process sent.
    pub bytes: u64,
    /// Seconds in which numbers went to and fro.
    pub seconds: f64,
    /// Seconds in which this process waited for the others.
    pub waited: f64,
}

impl Traffic {
    /// What came after an earlier state.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            seconds: self.seconds - earlier.seconds,
            waited: self.waited - earlier.waited,
        }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.seconds += other.seconds;
        self.waited += other.waited;
    }
}

/// The processes of a run; a clone speaks for the same process.
#[derive(Clone)]
pub struct Collective {
    /// `None` for a process that is alone.
    link: Option<Rc<dyn Link>>,
    traffic: Rc<Cell<Traffic>>,
}

impl fmt::Debug for Collective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank(), self.world())
    }
}

impl Default for Collective {
    fn default() -> Self {
        Self::alone()
    }
}

impl Collective {
    /// One process, which has nobody to talk to.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            link: None,
            traffic: Rc::default(),
        }
    }

    /// Processes that reach each other so.
    #[must_use]
    pub fn over(link: Rc<dyn Link>) -> Self {
        Self {
            link: Some(link),
            traffic: Rc::default(),
        }
    }

    /// The number of this process, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.rank())
    }

    /// How many processes there are.
    #[must_use]
    pub fn world(&self) -> usize {
        self.link.as_ref().map_or(1, |link| link.world())
    }

    /// Whether this is the process that writes and prints.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there is one process only.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.world() == 1
    }

    /// What was said so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// Ends all processes, this one among them if there are others: it cannot go on, and they may be waiting for it.
    pub fn abort(&self, exit_code: i32) {
        if let Some(link) = self.link.as_ref().filter(|link| link.world() > 1) {
            link.abort(exit_code);
        }
    }

    /// The others in the order in which this process turns to them: (to whom it sends, from whom it receives). All turn at
    /// the same time, so that nobody is spoken to by two.
    fn turns(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rank, world) = (self.rank(), self.world());
        (1..world).map(move |by| ((rank + by) % world, (rank + world - by) % world))
    }

    fn swap(
        &self,
        to: usize,
        sent: &[u8],
        from: usize,
        received: &mut [u8],
    ) -> Result<(), TrainError> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        self.count(sent.len(), Duration::ZERO, Duration::ZERO);
        link.swap(to, sent, from, received)
            .map_err(|reason| TrainError::Lost { reason })
    }

    fn count(&self, bytes: usize, busy: Duration, waited: Duration) {
        let mut traffic = self.traffic.get();
        traffic += Traffic {
            bytes: bytes as u64,
            seconds: busy.as_secs_f64(),
            waited: waited.as_secs_f64(),
        };
        self.traffic.set(traffic);
    }

    /// A number of each process, by rank. Whoever is late keeps the others waiting here, and the time counts as such.
    ///
    /// # Errors
    /// When a process cannot be reached.
    pub fn numbers(&self, own: u64) -> Result<Vec<u64>, TrainError> {
        let clock = Instant::now();
        let mut all = vec![own; self.world()];
        for (to, from) in self.turns() {
            let mut bytes = [0; 8];
            self.swap(to, &own.to_le_bytes(), from, &mut bytes)?;
            all[from] = u64::from_le_bytes(bytes);
        }
        self.count(0, Duration::ZERO, clock.elapsed());
        Ok(all)
    }

    /// Whether it is so for any process.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn any(&self, own: bool) -> Result<bool, TrainError> {
        Ok(match self.is_alone() {
            true => own,
            false => self.numbers(own.into())?.contains(&1),
        })
    }

    /// Bytes of each process, by rank; they need not be equally many.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, TrainError> {
        let lengths = self.numbers(own.len() as u64)?;
        let clock = Instant::now();
        let mut all: Vec<Vec<u8>> = vec![Vec::new(); self.world()];
        for (to, from) in self.turns() {
            let mut bytes = vec![0; lengths[from] as usize];
            self.swap(to, &own, from, &mut bytes)?;
            all[from] = bytes;
        }
        all[self.rank()] = own;
        self.count(0, clock.elapsed(), Duration::ZERO);
        Ok(all)
    }

    /// What the process that leads says; the others' word does not count, and they need not make any.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub fn of_lead(&self, own: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        let own = match self.leads() {
            true => own,
            false => Vec::new(),
        };
        Ok(self.gather(own)?.swap_remove(0))
    }

    /// A result of each process: an error of any is one for all. Where several have one, the first of them tells it, and the
    /// others have [`TrainError::Elsewhere`].
    ///
    /// # Errors
    /// The own one, or that another process has one.
    pub fn agree<T, E: From<TrainError>>(&self, own: Result<T, E>) -> Result<T, E> {
        if self.is_alone() {
            return own;
        }
        let failed = self.numbers(own.is_err().into())?;
        match failed.iter().position(|&failed| failed != 0) {
            Some(rank) if rank != self.rank() => Err(TrainError::Elsewhere { rank }.into()),
            _ => own,
        }
    }

    /// Every process sends pieces of numbers to every other. `sent(to)` are this process's for another, `received(from)` how
    /// long those are that come from there; all processes have as many pieces, some of which may be empty.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub(crate) fn exchange<'a>(
        &self,
        sent: impl Fn(usize) -> Vec<&'a [f32]>,
        received: impl Fn(usize) -> Vec<usize>,
    ) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        let clock = Instant::now();
        let mut all = vec![Vec::new(); self.world()];
        for (to, from) in self.turns() {
            for (piece, length) in sent(to).into_iter().zip(received(from)) {
                let mut values = vec![0f32; length];
                let bytes = bytemuck::cast_slice_mut(&mut values);
                self.swap(to, bytemuck::cast_slice(piece), from, bytes)?;
                all[from].push(values);
            }
        }
        self.count(0, clock.elapsed(), Duration::ZERO);
        Ok(all)
    }

    /// Every process has its part of the values; afterwards all have all. `part(rank)` is where a process's part lies.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub(crate) fn share(
        &self,
        values: &mut [f32],
        part: impl Fn(usize) -> Range<usize>,
    ) -> Result<(), TrainError> {
        let clock = Instant::now();
        let own = values[part(self.rank())].to_vec();
        for (to, from) in self.turns() {
            let room = bytemuck::cast_slice_mut(&mut values[part(from)]);
            self.swap(to, bytemuck::cast_slice(&own), from, room)?;
        }
        self.count(0, clock.elapsed(), Duration::ZERO);
        Ok(())
    }

    /// The process that leads gets every process's part of the values; the others only send theirs.
    ///
    /// # Errors
    /// As [`numbers`](Self::numbers).
    pub(crate) fn collect(
        &self,
        values: &mut [f32],
        part: impl Fn(usize) -> Range<usize>,
    ) -> Result<(), TrainError> {
        let (rank, world) = (self.rank(), self.world());
        if rank > 0 {
            return self.swap(0, bytemuck::cast_slice(&values[part(rank)]), 0, &mut []);
        }
        for from in 1..world {
            let room = bytemuck::cast_slice_mut(&mut values[part(from)]);
            self.swap(from, &[], from, room)?;
        }
        Ok(())
    }
}
