//! The questions that only the lane asks, and its commits.

use std::cell::Cell;
use std::collections::HashMap;

use aiki_core::listing::{RunFilter, WorkflowUse};
use aiki_core::name::{Source, WorkflowKey};
use aiki_core::rank::Rank;
use aiki_core::run::RunHead;
use aiki_core::{Name, ReadyRun, RunId, ScheduleId, ScheduleRecord, Timestamp};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::columns::{Id, to_column, to_number, to_timestamp};
use super::commit::Batch;
use super::link::{Link, Session};
use super::read::PostgresReads;
use super::schema::{KNOWN, LATEST};
use crate::storage::{
    Holder, LoadedRow, QueuedPlace, Reads, ReadyQuery, ReferenceKey, RunQuery, RunWrite, ScheduleKey, ScheduleQuery,
    ScheduleReads, ScheduleWrite, Slots, Storage, StorageError, StoredSchedule, Wait,
};

/// The lane's connection.
pub(super) struct PostgresStorage {
    reads: PostgresReads,
    /// The concurrency keys whose runs this batch has counted, with the version of their fence before.
    counted: HashMap<(String, String), i64>,
    note: Option<String>,
    /// A question went wrong while rows were locked: the database answers none until the batch has ended.
    spoilt: Option<StorageError>,
}

impl PostgresStorage {
    pub(super) fn new(link: Link) -> Self {
        Self { reads: PostgresReads(link), counted: HashMap::new(), note: None, spoilt: None }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.reads.0
    }

    fn noted<T>(&mut self, answer: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &answer
            && self.spoilt.is_none()
        {
            self.spoilt = Some(error.clone());
        }
        answer
    }

    /// Asks for rows that are locked for this server until the batch ends. Those that another one has locked are left
    /// out.
    fn locking(&mut self, select: &'static str, key: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StorageError> {
        let rows = self.link().ask(async |session| begin_and_ask(session, select, key).await);
        self.noted(rows)
    }
}

/// The begin of a transaction, where there is none, costs no round trip of its own.
async fn begin_and_ask(
    session: &mut Session,
    select: &'static str,
    key: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let select = session.prepare(select).await?;
    if session.in_transaction {
        return session.client.query(&select, key).await;
    }
    session.in_transaction = true;
    let (begun, rows) = tokio::join!(biased; session.client.batch_execute("BEGIN"), session.client.query(&select, key));
    begun.and(rows)
}

const DUE: &str = "SELECT id FROM runs WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED";

const SCHEDULES_DUE: &str =
    "SELECT id FROM schedules WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED";

/// Ready runs of one workflow and pool.
const READY: &str = "
    SELECT r.rank, r.id
    FROM unnest($2::text[], $3::text[], $4::text[]) AS w (source, name, version_id)
    CROSS JOIN unnest($5::text[]) AS p (pool)
    CROSS JOIN LATERAL (
        SELECT rank, id FROM runs
        WHERE namespace = $1 AND source = w.source AND name = w.name AND version_id = w.version_id AND pool = p.pool
              AND rank IS NOT NULL
        ORDER BY rank, id LIMIT $6 FOR NO KEY UPDATE SKIP LOCKED
    ) AS r";

/// Ready runs of several: $6 of them are listed, and of these only as many are locked as are asked for, $7. Locked as
/// they are listed, those that are too many would be hidden from the other servers. The last row says how many were
/// listed.
const READY_OF_MANY: &str = "
    WITH listed AS MATERIALIZED (
        SELECT r.rank, r.id
        FROM unnest($2::text[], $3::text[], $4::text[]) AS w (source, name, version_id)
        CROSS JOIN unnest($5::text[]) AS p (pool)
        CROSS JOIN LATERAL (
            SELECT rank, id FROM runs
            WHERE namespace = $1 AND source = w.source AND name = w.name AND version_id = w.version_id
                  AND pool = p.pool AND rank IS NOT NULL
            ORDER BY rank, id LIMIT $6
        ) AS r
        ORDER BY r.rank, r.id LIMIT $6
    ), locked AS MATERIALIZED (
        SELECT r.rank, r.id FROM listed l JOIN runs r ON r.id = l.id
        WHERE r.rank IS NOT NULL ORDER BY l.rank, l.id LIMIT $7 FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    SELECT rank, id, NULL::bigint FROM locked UNION ALL SELECT NULL, NULL, count(*) FROM listed";

/// Lists of ready runs that are asked for, each four times as long, when other servers hold what was listed.
const READY_LISTS: u32 = 3;

/// One statement, so that the runs and the fence are of the same moment. The first row says how many hold a place, and
/// the version of the fence. There are as many lines as the runs of a key differ in their limits.
const SLOTS: &str = "
    WITH RECURSIVE lines (places) AS (
        (SELECT wait_limit FROM runs WHERE namespace = $1 AND slot_key = $2 AND wait_limit > 0 AND $3::bigint > 0
         ORDER BY wait_limit LIMIT 1)
        UNION ALL
        SELECT next.wait_limit FROM lines CROSS JOIN LATERAL (
            SELECT wait_limit FROM runs WHERE namespace = $1 AND slot_key = $2 AND wait_limit > lines.places
            ORDER BY wait_limit LIMIT 1
        ) AS next
    )
    SELECT NULL::uuid, (SELECT count(*) FROM runs WHERE namespace = $1 AND slot_key = $2 AND wait_limit IS NULL),
           (SELECT version FROM slot_keys WHERE namespace = $1 AND key = $2)
    UNION ALL
    SELECT r.id, r.wait_rank, lines.places FROM lines CROSS JOIN LATERAL (
        SELECT id, wait_rank FROM runs WHERE namespace = $1 AND slot_key = $2 AND wait_limit = lines.places
        ORDER BY wait_rank, id LIMIT $3::bigint
    ) AS r";

impl Reads for PostgresStorage {
    fn load(&mut self, ids: &[RunId]) -> Result<Vec<LoadedRow>, StorageError> {
        let rows = Reads::load(&mut self.reads, ids);
        self.noted(rows)
    }

    fn by_reference(&mut self, keys: &[ReferenceKey]) -> Result<Vec<Option<RunId>>, StorageError> {
        let found = self.reads.by_reference(keys);
        self.noted(found)
    }

    fn pages(&mut self, id: RunId, first: u32, end: u32) -> Result<Vec<String>, StorageError> {
        let pages = self.reads.pages(id, first, end);
        self.noted(pages)
    }

    fn children(&mut self, parent: RunId, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let children = self.reads.children(parent, limit);
        self.noted(children)
    }

    fn is_marked(&mut self, id: RunId, mark: &str) -> Result<bool, StorageError> {
        let marked = self.reads.is_marked(id, mark);
        self.noted(marked)
    }

    fn queued(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, ReadyRun)>, StorageError> {
        let queued = self.reads.queued(after, limit);
        self.noted(queued)
    }

    fn held(&mut self, after: QueuedPlace, limit: usize) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        let held = self.reads.held(after, limit);
        self.noted(held)
    }

    fn holders(&mut self, namespace: &Name, limit: usize) -> Result<Vec<Holder>, StorageError> {
        let holders = self.reads.holders(namespace, limit);
        self.noted(holders)
    }

    fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunHead>, StorageError> {
        let answer = self.reads.list_runs(query);
        self.noted(answer)
    }

    fn count(&mut self, namespace: &Name, filter: &RunFilter) -> Result<u64, StorageError> {
        let answer = self.reads.count_runs(namespace, filter);
        self.noted(answer)
    }

    fn workflows(&mut self, namespace: &Name, of: Option<(Source, &Name)>) -> Result<Vec<WorkflowUse>, StorageError> {
        let answer = self.reads.workflows(namespace, of);
        self.noted(answer)
    }

    fn ended(
        &mut self,
        until: Timestamp,
        after: QueuedPlace,
        limit: usize,
    ) -> Result<Vec<(QueuedPlace, Name)>, StorageError> {
        let answer = self.reads.list_ended(until, after, limit);
        self.noted(answer)
    }

    fn schedules(&mut self) -> &mut dyn ScheduleReads {
        self
    }
}

impl ScheduleReads for PostgresStorage {
    fn load(&mut self, id: ScheduleId) -> Result<Option<StoredSchedule>, StorageError> {
        match ScheduleReads::load(&mut self.reads, id) {
            // Damage is in one row, and the database has answered.
            Err(StorageError::Damaged(damage)) => Err(StorageError::Damaged(damage)),
            found => self.noted(found),
        }
    }

    fn find(&mut self, key: &ScheduleKey) -> Result<Option<ScheduleId>, StorageError> {
        let found = self.reads.find(key);
        self.noted(found)
    }

    fn list(&mut self, query: &ScheduleQuery) -> Result<(Vec<ScheduleRecord>, u64), StorageError> {
        let listed = self.reads.list(query);
        self.noted(listed)
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<ScheduleId>, StorageError> {
        let rows = self.locking(SCHEDULES_DUE, &[&to_column(now.as_millis()), &to_column(limit as u64)])?;
        rows.iter().map(|row| Ok(row.try_get::<_, Id>(0)?.schedule())).collect()
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let next = ScheduleReads::next_due(&mut self.reads, now);
        self.noted(next)
    }

    fn last_id(&mut self) -> Result<Option<ScheduleId>, StorageError> {
        let last = ScheduleReads::last_id(&mut self.reads);
        self.noted(last)
    }
}

fn in_order(mut found: Vec<(i64, RunId)>) -> Vec<RunId> {
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

impl Storage for PostgresStorage {
    fn reads(&mut self) -> &mut dyn Reads {
        self
    }

    fn commit(&mut self, writes: &[RunWrite<'_>], schedules: &[ScheduleWrite<'_>]) -> Result<(), StorageError> {
        let (counted, note) = (std::mem::take(&mut self.counted), self.note.take());
        if self.spoilt.is_some() {
            return self.settle();
        }
        let batch = Batch::new(writes, schedules, counted, note)?;
        let (sent, answered) = (Cell::new(false), Cell::new(false));
        let stored = self.link().once(async |session| {
            let statements = batch.prepare(session).await?;
            let begin = !std::mem::replace(&mut session.in_transaction, false);
            sent.set(true);
            let stored = batch.send(&session.client, &statements, begin).await;
            answered.set(true);
            stored
        });
        match stored {
            Err(StorageError::Unreachable(reason)) if sent.get() && !answered.get() => {
                Err(StorageError::Unknown(reason))
            }
            stored => stored.map_err(StorageError::while_writing),
        }
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let rows = self.locking(DUE, &[&to_column(now.as_millis()), &to_column(limit as u64)])?;
        if rows.is_empty() {
            // No commit follows that would find out: also a server that writes nothing tells that it cannot.
            let known = self.link().ask(async |session| {
                let select = session.prepare(KNOWN).await?;
                session.client.execute(&select, &[&LATEST]).await
            });
            self.noted(known)?;
        }
        rows.iter().map(|row| Ok(row.try_get::<_, Id>(0)?.run())).collect()
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StorageError> {
        let next = self.link().ask(async |session| {
            let select = session.prepare("SELECT due_at FROM runs WHERE due_at > $1 ORDER BY due_at LIMIT 1").await?;
            let row = session.client.query_opt(&select, &[&to_column(now.as_millis())]).await?;
            row.map(|row| row.try_get::<_, i64>(0)).transpose()
        });
        Ok(self.noted(next)?.filter(|due| *due != i64::MAX).map(to_timestamp))
    }

    fn ready(&mut self, query: &ReadyQuery<'_>, limit: usize) -> Result<Vec<RunId>, StorageError> {
        let mut workflows: Vec<_> = query.workflows.iter().collect();
        workflows.sort_unstable();
        workflows.dedup();
        let mut pools: Vec<&str> = query.pools.iter().map(Name::as_str).collect();
        pools.sort_unstable();
        pools.dedup();
        if pools.is_empty() {
            pools.push("");
        }
        let column = |of: fn(&WorkflowKey) -> &str| workflows.iter().map(|workflow| of(workflow)).collect::<Vec<_>>();
        let sources = column(|workflow| workflow.source.as_str());
        let (names, versions) =
            (column(|workflow| workflow.name.as_str()), column(|workflow| workflow.version.as_str()));
        let (namespace, wanted) = (query.namespace.as_str(), to_column(limit as u64));
        let mut found: Vec<(i64, RunId)> = Vec::new();
        if workflows.len() * pools.len() == 1 {
            let key: [&(dyn ToSql + Sync); 6] = [&namespace, &sources, &names, &versions, &pools, &wanted];
            for row in self.locking(READY, &key)? {
                found.push((row.try_get(0)?, row.try_get::<_, Id>(1)?.run()));
            }
            return Ok(in_order(found));
        }
        let mut length = wanted;
        for _ in 0..READY_LISTS {
            let key: [&(dyn ToSql + Sync); 7] = [&namespace, &sources, &names, &versions, &pools, &length, &wanted];
            let mut listed = 0;
            found.clear();
            for row in self.locking(READY_OF_MANY, &key)? {
                match row.try_get::<_, Option<i64>>(2)? {
                    Some(count) => listed = count,
                    None => found.push((row.try_get(0)?, row.try_get::<_, Id>(1)?.run())),
                }
            }
            if found.len() >= limit || listed < length {
                break;
            }
            length = length.saturating_mul(4);
        }
        Ok(in_order(found))
    }

    fn slots(&mut self, namespace: &Name, key: &str, limit: usize) -> Result<Slots, StorageError> {
        let limit = to_column(limit as u64);
        let rows = self.link().ask(async |session| {
            let select = session.prepare(SLOTS).await?;
            session.client.query(&select, &[&namespace.as_str(), &key, &limit]).await
        });
        let (mut slots, mut fence) = (Slots::default(), 0);
        for row in self.noted(rows)? {
            let (number, third): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
            match row.try_get::<_, Option<Id>>(0)? {
                Some(id) => {
                    let limit = third.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX);
                    let wait = Wait { rank: Rank::from_u64(to_number(number)), run: id.run(), limit };
                    slots.lines.entry(limit).or_default().push(wait);
                }
                None => {
                    slots.holding = usize::try_from(number).unwrap_or(usize::MAX);
                    fence = third.unwrap_or(0);
                }
            }
        }
        // The rows of a line come in its order, though nobody promises it.
        slots.lines.values_mut().for_each(|line| line.sort_unstable());
        // The first count decides: what changed between two of them is a conflict.
        self.counted.entry((namespace.as_str().to_owned(), key.to_owned())).or_insert(fence);
        Ok(slots)
    }

    fn last_id(&mut self) -> Result<Option<RunId>, StorageError> {
        self.link().ask(async |session| {
            let select = session.prepare("SELECT id FROM runs ORDER BY id DESC LIMIT 1").await?;
            let row = session.client.query_opt(&select, &[]).await?;
            row.map(|row| Ok(row.try_get::<_, Id>(0)?.run())).transpose()
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn tell_others(&mut self, note: String) {
        self.note = Some(note);
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        (self.counted, self.note) = (HashMap::new(), None);
        let spoilt = self.spoilt.take();
        // On a new connection there is nothing to roll back.
        let settled = self.link().settle();
        match spoilt {
            Some(error) => Err(error),
            None => settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aiki_core::hash::input_hash;
    use aiki_core::run::plan::{CreateRun, create};

    use super::super::config::{Options, Target};
    use super::super::schema::migrate;
    use super::*;
    use crate::storage::StoredRun;

    fn open(schema: &test_postgres::Schema) -> PostgresStorage {
        let options = Options { url: schema.url.clone(), schema: Some(schema.name.clone()) };
        let target = Arc::new(Target::new(&options).unwrap());
        let mut link = Link::new(Arc::clone(&target)).unwrap();
        link.first(async |client| migrate(client, &target).await).unwrap();
        PostgresStorage::new(link)
    }

    #[test]
    fn what_one_server_is_about_to_claim_hides_nothing_else_from_another() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = runtime.block_on(test_postgres::Schema::fresh());
        let (mut a, mut b) = (open(&schema), open(&schema));
        let workflows = [WorkflowKey::user("v", "1"), WorkflowKey::user("w", "1")];
        let namespace = Name::new("n");
        let heads: Vec<RunHead> = (0..20_usize)
            .map(|at| {
                // The first are all of one workflow.
                let request = CreateRun::new(workflows[at / 10].clone(), None, input_hash(None).unwrap());
                let now = Timestamp::from_millis(1 + at as u64);
                create(&request, RunId::from_bits((1 + at as u128) << 24), &namespace, now, &mut Vec::new())
            })
            .collect();
        let rows: Vec<StoredRun> =
            heads.into_iter().map(|head| StoredRun { head, tail: String::new(), pages: 0, version: 1 }).collect();
        let write = |run| RunWrite {
            run,
            expected: None,
            spilled: &[],
            marks: &[],
            drop_pages_below: None,
            was: None,
            forget: false,
        };
        a.commit(&rows.iter().map(write).collect::<Vec<_>>(), &[]).unwrap();
        let ids: Vec<RunId> = rows.iter().map(|row| row.head.id).collect();
        let query = ReadyQuery { namespace: &namespace, workflows: &workflows, pools: &[] };
        // A has not committed when B asks.
        assert_eq!(a.ready(&query, 10).unwrap(), ids[..10]);
        assert_eq!(b.ready(&query, 10).unwrap(), ids[10..]);
        assert_eq!(b.ready(&query, 30).unwrap(), ids[10..], "its own are there again");
        b.settle().unwrap();
        // A workflow that is named twice counts once.
        let twice = [workflows[1].clone(), workflows[1].clone()];
        let query = ReadyQuery { workflows: &twice, ..query };
        assert_eq!(b.ready(&query, 12).unwrap(), ids[10..]);
        a.settle().unwrap();
    }
}
