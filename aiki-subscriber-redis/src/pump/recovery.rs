//! Entries that nobody looks after: other workers' and our own.

use std::time::Duration;

use aiki_core::subscriber::{DeliveryLease, Receipt};
use fred::types::Value;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::Pump;
use crate::chance;
use crate::classify::{Failure, Trouble};
use crate::eviction;
use crate::health::add;
use crate::key::{GROUP, RETURNED};
use crate::link::command;
use crate::message::Entry;
use crate::script;

/// Pending entries that are looked at with one question.
const PAGE: usize = 100;
/// Questions to one stream in one sweep. A longer list is gone through over several sweeps.
const MAX_PAGES: usize = 10;
/// Streams that are asked at once.
const STREAMS_AT_ONCE: usize = 64;

/// A pending entry.
struct Pending {
    id: String,
    handed_back: bool,
    idle_ms: u64,
}

impl Pump {
    /// Redis may have stood still, and every entry looks abandoned: renews what is ours, and takes nothing over
    /// until the others have had time to do the same.
    pub(crate) async fn begin_grace(&mut self) -> Result<(), Failure> {
        let suspicions = self.counters.suspicions();
        let held = self.intake.held();
        let now = Instant::now();
        for (receipt, lease) in held.iter().zip(self.broker.renew(&held).await?) {
            if lease == DeliveryLease::Mine {
                self.intake.renewed(receipt, now);
            }
        }
        // It may have been restarted with another configuration.
        self.counters.note_eviction(eviction::policy(&self.broker.control).await);
        self.state.grace_until = Instant::now() + self.timing.grace();
        self.state.suspicions = suspicions;
        Ok(())
    }

    /// Takes over what was abandoned, at most `free` entries. Answers how many deliveries there are.
    ///
    /// The entries are chosen by a question that changes nothing, and taken by name. If Redis stands still in
    /// between, it is noticed, and nothing is taken that did not look abandoned before.
    pub(crate) async fn sweep(&mut self, free: usize) -> Result<usize, Failure> {
        self.intake.forget_older_than(self.timing.lease * 2);
        if self.state.broken.contains(&true) {
            self.make_groups().await?;
        }
        let count = self.streams.all().len();
        let order: Vec<usize> = (0..count).filter(|at| !self.state.broken[*at]).collect();
        let mut chosen: Vec<(usize, Vec<String>)> = Vec::new();
        let mut left = free;
        for part in order.chunks(STREAMS_AT_ONCE) {
            let from: Vec<_> = part.iter().map(|at| (*at, self.state.cursors[*at].clone())).collect();
            let pages = self.pending(&from, "").await?;
            let looks = part.iter().zip(pages).map(|(at, page)| self.abandoned(*at, page, free));
            for (at, (cursor, ids)) in part.iter().zip(try_join_all(looks).await?) {
                let ids: Vec<_> = ids.into_iter().take(left).collect();
                left -= ids.len();
                if left > 0 || ids.is_empty() {
                    self.state.cursors[*at] = cursor;
                }
                if !ids.is_empty() {
                    chosen.push((*at, ids));
                }
            }
            if left == 0 {
                break;
            }
        }
        if self.counters.suspicions() != self.state.suspicions {
            // Redis stood still while it was asked.
            return Ok(0);
        }
        let mut taken = 0;
        for (at, ids) in chosen {
            taken += self.take_over(at, ids).await?;
        }
        add(&self.counters.taken_over, taken);
        // As many as fit were taken: there may be more.
        let pause = if left == 0 { Duration::ZERO } else { chance::around(self.timing.sweep()) };
        self.state.next_sweep = Instant::now() + pause;
        Ok(taken)
    }

    /// Takes over these entries if they are still abandoned.
    async fn take_over(&mut self, at: usize, ids: Vec<String>) -> Result<usize, Failure> {
        let mut args = vec![self.streams.all()[at].key.clone(), GROUP.into(), self.broker.consumer.clone()];
        args.push(self.timing.lease_ms().to_string());
        args.extend_from_slice(&ids);
        let answer = self.broker.control.ask(|client| async move { command(&client, "XCLAIM", args).await }).await?;
        let rows = answer.into_array();
        // Before version 7, Redis gives an entry whose body is gone as nil, and keeps it pending.
        let some_gone = rows.iter().any(Value::is_null);
        let entries: Vec<_> = rows.into_iter().filter_map(Entry::parse).map(|entry| (at, entry)).collect();
        if some_gone {
            let gone = ids.iter().filter(|id| entries.iter().all(|(_, entry)| entry.id != **id));
            let gone: Vec<_> = gone.map(|id| self.streams.receipt(at, id)).collect();
            self.broker.ack(&gone).await?;
        }
        Ok(self.accept(entries).await)
    }

    /// Where to go on in this stream after this page, and entries that were abandoned, about as many as wanted.
    async fn abandoned(
        &self,
        at: usize,
        mut page: Vec<Pending>,
        wanted: usize,
    ) -> Result<(String, Vec<String>), Failure> {
        let in_grace = Instant::now() < self.state.grace_until;
        let mut cursor = self.state.cursors[at].clone();
        let mut ids = Vec::new();
        for _ in 0..MAX_PAGES {
            let full = page.len() >= PAGE;
            if let (Some(last), true) = (page.last(), full) {
                cursor = format!("({}", last.id);
            }
            let old = page.into_iter().filter(|entry| entry.idle_ms >= self.timing.lease_ms());
            let old = old.filter(|entry| entry.handed_back || !in_grace);
            // What our own worker holds is renewed by it, or forgotten in time.
            ids.extend(old.map(|entry| entry.id).filter(|id| !self.intake.holds(&self.streams.receipt(at, id))));
            if !full {
                return Ok(("-".into(), ids));
            }
            if ids.len() >= wanted {
                break;
            }
            page = self.pending(&[(at, cursor.clone())], "").await?.pop().unwrap_or_default();
        }
        Ok((cursor, ids))
    }

    /// A page of the pending list of each stream, from these entries on: of one consumer, or without a name of all.
    async fn pending(&self, from: &[(usize, String)], consumer: &str) -> Result<Vec<Vec<Pending>>, Failure> {
        let keys = from.iter().map(|(at, _)| self.streams.all()[*at].key.clone()).collect();
        let mut args = vec![GROUP.to_owned(), PAGE.to_string(), consumer.to_owned()];
        args.extend(from.iter().map(|(_, entry)| entry.clone()));
        let answer = self.broker.run(&script::PENDING, keys, args).await?;
        let entry = |entry: Value| {
            let mut parts = entry.into_array().into_iter();
            let (id, owner, idle) = (parts.next()?, parts.next()?, parts.next()?);
            let handed_back = owner.as_str().is_some_and(|owner| owner == RETURNED);
            Some(Pending { id: id.into_string()?, handed_back, idle_ms: idle.as_u64()? })
        };
        let page = |page: Value| page.into_array().into_iter().filter_map(entry).collect();
        Ok(answer.into_array().into_iter().map(page).collect())
    }

    /// Everything in our pending lists that we do not know of: an answer with it was lost.
    pub(crate) async fn own_entries(&self) -> Result<Vec<Receipt>, Failure> {
        let mut own = Vec::new();
        let whole: Vec<usize> = (0..self.streams.all().len()).filter(|at| !self.state.broken[*at]).collect();
        for part in whole.chunks(STREAMS_AT_ONCE) {
            let from: Vec<_> = part.iter().map(|at| (*at, "-".to_owned())).collect();
            let pages = self.pending(&from, &self.broker.consumer).await?;
            for (at, page) in part.iter().zip(pages) {
                own.extend(page.into_iter().map(|entry| self.streams.receipt(*at, &entry.id)));
            }
        }
        own.retain(|receipt| !self.intake.holds(receipt));
        Ok(own)
    }

    /// Delivers them: they are ours, so nobody is robbed.
    pub(crate) async fn take_own(&mut self) -> Result<(), Failure> {
        let own = self.own_entries().await?;
        for batch in self.streams.clone().batches(&own) {
            let mut args = vec![GROUP.to_owned(), self.broker.consumer.clone()];
            args.extend(batch.ids);
            let keys = vec![self.streams.all()[batch.at].key.clone()];
            let answer: Value = self.broker.run(&script::RECLAIM_OWN, keys, args).await?;
            let entries = answer.into_array().into_iter().filter_map(Entry::parse).map(|entry| (batch.at, entry));
            self.accept(entries.collect()).await;
        }
        Ok(())
    }

    /// Uses what will be needed on an entry that does not exist, so that a right that is missing shows at the start.
    pub(crate) async fn try_everything(&mut self) -> Result<(), Failure> {
        let Some(at) = self.state.broken.iter().position(|broken| !broken) else { return Ok(()) };
        self.broker.renew(&[self.streams.receipt(at, "0-1")]).await?;
        self.pending(&[(at, "-".to_owned())], &self.broker.consumer).await?;
        let key = self.streams.all()[at].key.as_str();
        let consumer = self.broker.consumer.as_str();
        for (name, args) in [
            ("XCLAIM", vec![key, GROUP, consumer, "0", "0-1", "JUSTID"]),
            ("XACK", vec![key, GROUP, "0-1"]),
            ("XDEL", vec![key, "0-1"]),
            ("XTRIM", vec![key, "MINID", "=", "0-1"]),
            ("XRANGE", vec![key, "0-1", "0-1"]),
            ("XREADGROUP", vec!["GROUP", GROUP, consumer, "COUNT", "1", "STREAMS", key, "0"]),
        ] {
            let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            self.broker.control.ask(|client| async move { command(&client, name, args).await }).await?;
        }
        Ok(())
    }

    /// Gives back what nobody here has looked at. Without room for a new entry (`OOM`) it goes the slower way, over
    /// the pending list.
    pub(crate) async fn give_up(&self, receipts: &[Receipt]) -> Result<(), Failure> {
        match self.broker.put_back(receipts).await {
            Err(failure) if failure.trouble == Trouble::Busy => {
                self.broker.hand_back(receipts, self.timing.lease_ms()).await
            }
            done => done,
        }
    }
}
