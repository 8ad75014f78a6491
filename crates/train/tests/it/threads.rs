//! Processes played by threads, which hand each other bytes as MPI would.

use rekindle_train::{Collective, Link};
use std::{
    rc::Rc,
    sync::mpsc::{Receiver, Sender, channel},
};

/// One of them.
struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Link for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len()
    }

    fn swap(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String> {
        let gone = |process| format!("process {process} is gone");
        if !sent.is_empty() {
            self.to[to].send(sent.to_vec()).map_err(|_| gone(to))?;
        }
        if !received.is_empty() {
            let bytes = self.from[from].recv().map_err(|_| gone(from))?;
            received.copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn abort(&self, _: i32) {}
}

/// What each of so many processes makes, by rank.
pub fn together<T: Send>(world: usize, work: impl Fn(Collective) -> T + Sync) -> Vec<T> {
    let mut links: Vec<Threads> = (0..world)
        .map(|rank| Threads {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for from in 0..world {
        for to in 0..world {
            let (sender, receiver) = channel();
            links[from].to.push(sender);
            links[to].from.push(receiver);
        }
    }
    std::thread::scope(|scope| {
        let work = &work;
        let start = |link| scope.spawn(move || work(Collective::over(Rc::new(link))));
        let threads: Vec<_> = links.into_iter().map(start).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}
