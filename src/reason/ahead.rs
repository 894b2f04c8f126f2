//! The grammar's answer for the next token, worked out while the decoder reads the last one.
//!
//! What may follow depends on the tokens only, not on their logits, so a thread of the trace's own
//! computes it meanwhile. A masked step then costs what is left when the decoder is done: mostly
//! nothing.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::ReasonError;
use super::constraint::{Constraint, Next};

/// A constraint that thinks ahead.
pub(super) struct Ahead<'scope> {
    /// A chosen token and how many more may follow it.
    chosen: SyncSender<(u32, usize)>,
    next: Receiver<Result<Next, ReasonError>>,
    worker: ScopedJoinHandle<'scope, bool>,
}

impl<'scope> Ahead<'scope> {
    /// Starts the thread, which first finds what may begin a trace of `budget` tokens.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        constraint: Constraint<'env>,
        budget: usize,
    ) -> Self {
        let (chosen, tokens) = sync_channel(1);
        let (answers, next) = sync_channel(1);
        let worker = scope.spawn(move || think(constraint, budget, tokens, &answers));
        Self { chosen, next, worker }
    }

    /// What may come next.
    ///
    /// # Errors
    /// When the matcher fails.
    pub fn next(&self) -> Result<Next, ReasonError> {
        self.next.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Tells the token that was chosen; with tokens remaining, [`Ahead::next`] must be asked after.
    ///
    /// # Errors
    /// When the thread ended.
    pub fn choose(&self, token: u32, remaining: usize) -> Result<(), ReasonError> {
        self.chosen.send((token, remaining)).map_err(|_| ended())
    }

    /// Whether the trace was completed, and by the model.
    ///
    /// # Errors
    /// When the thread panicked.
    pub fn finish(self) -> Result<bool, ReasonError> {
        let Self { chosen, next, worker } = self;
        drop((chosen, next));
        worker.join().map_err(|_| ended())
    }
}

fn think(
    mut constraint: Constraint<'_>,
    budget: usize,
    tokens: Receiver<(u32, usize)>,
    answers: &SyncSender<Result<Next, ReasonError>>,
) -> bool {
    let mut answer = constraint.next(budget);
    loop {
        if answers.send(answer).is_err() {
            break; // Decoding was stopped.
        }
        let Ok((token, remaining)) = tokens.recv() else { break };
        let accepted = constraint.accept(token);
        if remaining == 0 && accepted.is_ok() {
            break;
        }
        answer = accepted.and_then(|()| constraint.next(remaining));
    }
    constraint.is_complete() && !constraint.was_cut()
}

fn ended() -> ReasonError {
    ReasonError::Grammar { reason: "its thread ended".to_owned() }
}
