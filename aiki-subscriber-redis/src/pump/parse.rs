//! From Redis's answers to deliveries.

use fred::types::Value;

use super::Pump;
use crate::classify::{Failure, Trouble, classify_text};
use crate::health::add;
use crate::key::GROUP;
use crate::link::command;
use crate::message::Entry;
use crate::script;

/// Dead letters that are kept for one pool.
const MAX_DEAD_LETTERS: &str = "10000";
/// Bytes of a field or a value that go to the dead letters.
const MAX_DEAD_FIELD: usize = 4 * 1024;
/// Fields that go to the dead letters.
const MAX_DEAD_FIELDS: usize = 32;

impl Pump {
    /// Makes deliveries of entries; those that cannot be read go to the dead letters, those without a body are settled.
    /// Answers how many deliveries there are.
    pub(crate) async fn accept(&mut self, entries: Vec<(usize, Entry)>) -> usize {
        let (mut deliveries, mut gone) = (Vec::new(), Vec::new());
        for (at, entry) in entries {
            match entry.run() {
                Ok(run) => deliveries.push(self.streams.delivery(at, &entry.id, run)),
                Err(_) if entry.fields.is_none() => gone.push(self.streams.receipt(at, &entry.id)),
                Err(reason) => self.bury(at, &entry, reason).await,
            }
        }
        let count = deliveries.len();
        self.intake.deliver(deliveries);
        if !gone.is_empty() {
            // It stays pending otherwise, and is looked at again when it looks abandoned.
            let _ = self.broker.ack(&gone).await;
        }
        count
    }

    /// Moves an entry to the dead letters. When that fails it stays pending and is looked at again after the lease.
    async fn bury(&self, at: usize, entry: &Entry, reason: &str) {
        let stream = &self.streams.all()[at];
        tracing::error!(stream = stream.key, entry = entry.id, reason, "an entry cannot be read");
        add(&self.counters.dead_letters, 1);
        let (key, source) = (stream.dead_letters.clone(), stream.key.clone());
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"reason".to_vec(), reason.as_bytes().to_vec()),
            (b"stream".to_vec(), source.into_bytes()),
            (b"entry".to_vec(), entry.id.clone().into_bytes()),
        ];
        for (field, value) in entry.fields.iter().flatten().take(MAX_DEAD_FIELDS) {
            let cut = |bytes: &[u8]| bytes[..bytes.len().min(MAX_DEAD_FIELD)].to_vec();
            fields.push(([b"field:", &cut(field)[..]].concat(), cut(value)));
        }
        let mut args: Vec<Value> = ["MAXLEN", "~", MAX_DEAD_LETTERS, "*"].map(Value::from).to_vec();
        args.insert(0, Value::from(key));
        args.extend(
            fields.into_iter().flat_map(|(field, value)| [field, value]).map(|bytes| Value::Bytes(bytes.into())),
        );
        let written = self.broker.control.ask(|client| async move { command(&client, "XADD", args).await }).await;
        let receipt = self.streams.receipt(at, &entry.id);
        let settled = match written {
            Ok(_) => self.broker.ack(&[receipt]).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = settled {
            tracing::warn!(error = failure.text, "the entry stays where it is");
        }
    }

    /// Takes new entries without waiting, never more than wanted. Answers how many deliveries there are.
    pub(crate) async fn take(&mut self, free: usize) -> Result<usize, Failure> {
        let mut args = vec![GROUP.to_owned(), self.broker.consumer.clone(), free.to_string()];
        args.push(self.state.streak.len().to_string());
        args.push(crate::BURST.to_string());
        args.extend(self.state.streak.iter().map(u32::to_string));
        args.extend(self.state.from.iter().map(usize::to_string));
        let answer = self.broker.run(&script::TAKE, self.streams.keys(), args).await?;
        self.counters.mark(|moments, now| moments.read = Some(now));

        let mut parts = answer.into_array().into_iter().map(Value::into_array);
        let mut part = || parts.next().unwrap_or_default();
        let (taken, errors, streak, from) = (part(), part(), part(), part());
        for (place, value) in self.state.streak.iter_mut().zip(streak) {
            *place = value.as_u64().and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
        }
        for (place, value) in self.state.from.iter_mut().zip(from) {
            *place = value.as_usize().unwrap_or_default();
        }
        let taken: Vec<_> = taken.into_iter().filter_map(|pair| self.pair(pair)).collect();
        let entries = taken.into_iter().filter_map(|(at, entry)| Some((at, Entry::parse(entry)?))).collect::<Vec<_>>();
        let some = !entries.is_empty();
        let count = self.accept(entries).await;

        let errors: Vec<_> = errors.into_iter().filter_map(|pair| self.pair(pair)).collect();
        for (at, error) in errors {
            let text = error.into_string().unwrap_or_default();
            let trouble = classify_text(&text);
            if !(self.state.broken[at] && trouble == Trouble::WrongType) {
                return Err(Failure::new(trouble, text));
            }
        }
        // Entries that went to the dead letters count as well: there may be more behind them.
        Ok(if some { count.max(1) } else { 0 })
    }

    /// `{stream, anything}`, with streams counted from 1.
    fn pair(&self, value: Value) -> Option<(usize, Value)> {
        let mut parts = value.into_array().into_iter();
        let at = parts.next()?.as_usize()?.checked_sub(1).filter(|at| *at < self.streams.all().len())?;
        Some((at, parts.next()?))
    }
}
