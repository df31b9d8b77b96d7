//! A run as it is stored: the reader folds it.

use aiki_core::RunRecord;
use aiki_core::run::RunHead;
use aiki_core::run::history::{self, HistoryEntry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Head and history of a run. The sender joins the stored lines and parses nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunData {
    /// The head.
    pub head: Box<RunHead>,
    /// The entries of the history, oldest first, as a raw array.
    pub history: Box<RawValue>,
}

/// A run that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run} cannot be read: {reason}")]
pub struct RunDataError {
    /// The run.
    pub run: aiki_core::RunId,
    /// Why not.
    pub reason: String,
}

impl RunData {
    /// From the pages of the history, one entry of JSON per line.
    ///
    /// # Errors
    /// A page is not JSON: the store is damaged.
    pub fn new<'a>(head: RunHead, pages: impl IntoIterator<Item = &'a str>) -> Result<Self, RunDataError> {
        let mut list = String::from("[");
        for line in pages.into_iter().flat_map(str::lines) {
            if list.len() > 1 {
                list.push(',');
            }
            list.push_str(line);
        }
        list.push(']');
        match RawValue::from_string(list) {
            Ok(history) => Ok(Self { head: Box::new(head), history }),
            Err(error) => Err(RunDataError { run: head.id, reason: error.to_string() }),
        }
    }

    /// The entries of the history.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn entries(&self) -> Result<Vec<HistoryEntry>, RunDataError> {
        let unreadable = |error: history::HistoryError| RunDataError { run: self.head.id, reason: error.to_string() };
        history::parse_list(self.history.get()).map_err(unreadable)
    }

    /// The run's record.
    ///
    /// # Errors
    /// An entry of the history cannot be read.
    pub fn record(&self) -> Result<RunRecord, RunDataError> {
        Ok(RunRecord::fold(&self.head, self.entries()?))
    }
}

#[cfg(test)]
mod tests {
    use aiki_core::hash::input_hash;
    use aiki_core::name::WorkflowKey;
    use aiki_core::run::plan::{CreateRun, create};
    use aiki_core::{Name, Payload, RunId, Timestamp};

    use super::*;

    #[test]
    fn a_run_is_folded_by_its_reader_and_its_numbers_stay_as_written() {
        let input = r#"{"big":123456789012345678901234567890,"tiny":1.0}"#;
        let hash = input_hash(Some(input)).unwrap();
        let request = CreateRun::new(WorkflowKey::user("a", "1"), Payload::from_json(input).ok(), hash);
        let mut entries = Vec::new();
        let id = RunId::from_bits(5 << 24);
        let head = create(&request, id, &Name::new("n"), Timestamp::from_millis(9), &mut entries);
        let mut page = String::new();
        history::append(&mut page, &entries[..1]).unwrap();
        let mut tail = String::new();
        history::append(&mut tail, &entries[1..]).unwrap();
        let data = RunData::new(head.clone(), [page.as_str(), tail.as_str()]).unwrap();
        let text = serde_json::to_string(&data).unwrap();
        let read: RunData = serde_json::from_str(&text).unwrap();
        let record = read.record().unwrap();
        assert_eq!(record, RunRecord::fold(&head, entries));
        assert_eq!(record.input.unwrap().as_str(), input);
        assert!(RunData::new(head, ["{broken"]).is_err());
    }
}
