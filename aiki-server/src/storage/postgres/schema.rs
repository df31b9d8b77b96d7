//! Tables and indexes, and how older databases get them.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::config::Target;
use crate::start_error::ServerStartError;

/// The oldest Postgres that is tested.
const OLDEST: i32 = 15;
/// How long a start may wait for another one that brings the tables up to date, and for the work itself.
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);

/// Step n leads from schema n to schema n + 1. Steps that were released never change.
const MIGRATIONS: &[&str] = &[
    "
    -- One row per run: while its history is short, a commit writes this row and nothing else.
    CREATE TABLE runs (
        id uuid PRIMARY KEY,                        -- 16 bytes that sort by creation
        version bigint NOT NULL,                    -- counts the writes of the row
        namespace text COLLATE \"C\" NOT NULL,
        source text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        version_id text COLLATE \"C\" NOT NULL,
        pool text COLLATE \"C\" NOT NULL,           -- '' is none
        reference_id text COLLATE \"C\",
        status text COLLATE \"C\" NOT NULL,
        due_at bigint,                              -- ms since the epoch: when a server looks at it again
        rank bigint,                                -- set while the run is ready
        parent uuid,                                -- the run that started this one
        slot_key text COLLATE \"C\",                -- set while the run counts for a concurrency key
        owner text COLLATE \"C\",                   -- the worker that holds it
        held_since bigint,                          -- ms since the epoch
        schedule uuid,                              -- the schedule that started it
        ended_at bigint,                            -- ms since the epoch; set while the run is ended
        pages integer NOT NULL,                     -- rows in history
        head text NOT NULL,                         -- JSON
        tail text NOT NULL                          -- the history behind its pages, one JSON entry per line
    ) WITH (fillfactor = 70, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
    -- One value: no index that has some of these columns can serve in its place while a new database knows nothing.
    CREATE UNIQUE INDEX runs_reference ON runs ((ARRAY[namespace, source, name, version_id, reference_id]))
        WHERE reference_id IS NOT NULL;
    CREATE INDEX runs_due ON runs (due_at, id) WHERE due_at IS NOT NULL;
    CREATE INDEX runs_ready ON runs (namespace, source, name, version_id, pool, rank, id) WHERE rank IS NOT NULL;
    CREATE INDEX runs_parent ON runs (parent, id) WHERE parent IS NOT NULL;
    CREATE INDEX runs_slot ON runs (namespace, slot_key) WHERE slot_key IS NOT NULL;
    CREATE INDEX runs_workflow ON runs (namespace, source, name, id);
    CREATE INDEX runs_status ON runs (namespace, status, id);
    CREATE INDEX runs_schedule ON runs (schedule, id) WHERE schedule IS NOT NULL;
    CREATE INDEX runs_ended ON runs (ended_at, id) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_held ON runs (namespace, owner) WHERE owner IS NOT NULL;

    CREATE TABLE history (
        run uuid NOT NULL,
        page integer NOT NULL,
        entries text NOT NULL,
        PRIMARY KEY (run, page)
    );

    -- One row per workflow version that was ever used.
    CREATE TABLE workflows (
        namespace text COLLATE \"C\" NOT NULL,
        source text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        version_id text COLLATE \"C\" NOT NULL,
        first_seen_at bigint NOT NULL,              -- ms since the epoch
        last_run uuid,                              -- the newest run, which may be gone
        PRIMARY KEY (namespace, source, name, version_id)
    ) WITH (fillfactor = 50);

    -- How many of its runs are in which status.
    CREATE TABLE workflow_runs (
        namespace text COLLATE \"C\" NOT NULL,
        source text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        version_id text COLLATE \"C\" NOT NULL,
        status text COLLATE \"C\" NOT NULL,
        runs bigint NOT NULL,
        PRIMARY KEY (namespace, source, name, version_id, status)
    ) WITH (fillfactor = 50);

    -- What a run is not to accept a second time.
    CREATE TABLE marks (
        run uuid NOT NULL,
        mark text COLLATE \"C\" NOT NULL,
        PRIMARY KEY (run, mark)
    );

    CREATE TABLE schedules (
        id uuid PRIMARY KEY,                        -- 16 bytes that sort by creation
        version bigint NOT NULL,                    -- counts the writes of the row
        namespace text COLLATE \"C\" NOT NULL,
        definition_hash text COLLATE \"C\" NOT NULL,
        reference_id text COLLATE \"C\",
        created_at bigint NOT NULL,                 -- ms since the epoch
        due_at bigint,                              -- set while the schedule is active
        head text NOT NULL,                         -- JSON, all but the input
        input text                                  -- JSON; never changes
    );
    CREATE UNIQUE INDEX schedules_definition ON schedules (namespace, definition_hash);
    CREATE UNIQUE INDEX schedules_reference ON schedules (namespace, reference_id) WHERE reference_id IS NOT NULL;
    CREATE INDEX schedules_listed ON schedules (namespace, created_at, id);
    CREATE INDEX schedules_due ON schedules (due_at, id) WHERE due_at IS NOT NULL;

    -- The fence of decisions about a concurrency key: whoever has counted its runs writes this row as well.
    CREATE TABLE slot_keys (
        namespace text COLLATE \"C\" NOT NULL,
        key text COLLATE \"C\" NOT NULL,
        version bigint NOT NULL,
        touched_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (namespace, key)
    );

    -- What servers tell each other of workers.
    CREATE TABLE workers (
        namespace text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        last_seen bigint NOT NULL,                  -- ms since the epoch
        serves text,                                -- JSON
        serves_at bigint,
        PRIMARY KEY (namespace, name)
    );

    -- Ends a transaction that has not changed as many rows as it named.
    CREATE FUNCTION fence(changed bigint, named bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        IF changed <> named THEN
            RAISE EXCEPTION 'rows were changed by another server' USING ERRCODE = 'AK001';
        END IF;
        RETURN changed;
    END $$;
",
    "
    -- Ends a transaction of a server that does not know these tables any more. Who has asked keeps a newer version from
    -- changing them until its transaction has ended.
    CREATE FUNCTION known_to(mine bigint) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
        found bigint := (SELECT max(version) FROM aiki_schema);
    BEGIN
        IF found > mine THEN
            RAISE EXCEPTION 'the tables are those of version %, this server knows version %', found, mine
                USING ERRCODE = 'AK002';
        END IF;
        RETURN found;
    END $$;
",
    "
    ALTER TABLE runs ADD COLUMN wait_limit bigint;      -- set while the run waits for one of so many places of its key
    ALTER TABLE runs ADD COLUMN wait_rank bigint;       -- its place among those that wait
    -- A plain claim leaves a run queued: it has no rank and does not wait.
    DO $$
    DECLARE
        waiting record;
        told jsonb;
    BEGIN
        FOR waiting IN
            SELECT id, head FROM runs
            WHERE slot_key IS NOT NULL AND rank IS NULL AND status = 'queued' AND owner IS NULL
        LOOP
            BEGIN
                told := waiting.head::jsonb;
            EXCEPTION WHEN OTHERS THEN
                told := '{}';
            END;
            UPDATE runs SET
                wait_limit = coalesce((told #>> '{concurrency,limit}')::bigint, 0),
                wait_rank = coalesce(
                    10 * ((told #>> '{announce,ready_since}')::bigint
                        + CASE told ->> 'priority' WHEN 'high' THEN 0 WHEN 'low' THEN 120000 ELSE 60000 END)
                    + CASE told ->> 'priority' WHEN 'high' THEN 0 WHEN 'low' THEN 9 ELSE 4 END, 0)
            WHERE id = waiting.id;
        END LOOP;
    END $$;
    -- Those that hold a place are counted, those that wait are listed limit by limit.
    DROP INDEX runs_slot;
    CREATE INDEX runs_slot ON runs (namespace, slot_key, wait_limit, wait_rank, id) WHERE slot_key IS NOT NULL;
",
];

/// The latest schema.
pub(super) const LATEST: i64 = MIGRATIONS.len() as i64;
/// Fails when the tables are those of a newer version. Once for each transaction that writes.
pub(super) const KNOWN: &str = "SELECT known_to($1)";

/// Brings a database to the latest schema, in one transaction; starts of other servers wait for each other.
pub(super) async fn migrate(client: &Client, target: &Target) -> Result<(), ServerStartError> {
    let refused = |error: Error| target.refused(&error);
    let version: String = client.query_one_scalar("SHOW server_version_num", &[]).await.map_err(refused)?;
    let version = version.parse::<i32>().unwrap_or(0) / 10_000;
    if version < OLDEST {
        return Err(ServerStartError::PostgresTooOld { place: target.place.clone(), found: version, oldest: OLDEST });
    }
    let limit = MIGRATION_LIMIT.as_millis();
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {limit}; SET LOCAL statement_timeout = {limit};
         SELECT pg_advisory_xact_lock(hashtextextended('aiki:{}', 0))",
        target.schema
    );
    client.batch_execute(&begin).await.map_err(refused)?;
    let done = steps(client, target).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    done.and(client.batch_execute(end).await.map_err(refused))
}

async fn steps(client: &Client, target: &Target) -> Result<(), ServerStartError> {
    let refused = |error: Error| target.refused(&error);
    let schema = &target.schema;
    let found = "SELECT
        (SELECT count(*) FROM pg_namespace WHERE nspname = $1),
        (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1),
        to_regclass(quote_ident($1) || '.aiki_schema') IS NOT NULL";
    let found = client.query_one(found, &[schema]).await.map_err(refused)?;
    let (schemas, tables, ours): (i64, i64, bool) = (found.get(0), found.get(1), found.get(2));
    if !ours && tables > 0 {
        return Err(ServerStartError::PostgresForeign { place: target.place.clone(), schema: schema.clone() });
    }
    let mut from = 0;
    if ours {
        let found: i64 = client.query_one_scalar("SELECT version FROM aiki_schema", &[]).await.map_err(refused)?;
        if found > LATEST {
            let (place, schema) = (target.place.clone(), schema.clone());
            return Err(ServerStartError::PostgresNewerSchema { place, schema, found, known: LATEST });
        }
        from = usize::try_from(found).unwrap_or(0);
    } else {
        if schemas == 0 {
            client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.map_err(refused)?;
        }
        let first = "CREATE TABLE aiki_schema (version bigint NOT NULL); INSERT INTO aiki_schema VALUES (0)";
        client.batch_execute(first).await.map_err(refused)?;
    }
    if from < MIGRATIONS.len() {
        // Servers that write ask for the version first: those that have asked end before this goes on, the others see
        // what became of it.
        client.batch_execute("LOCK TABLE aiki_schema IN ACCESS EXCLUSIVE MODE").await.map_err(refused)?;
    }
    for step in &MIGRATIONS[from..] {
        client.batch_execute(step).await.map_err(refused)?;
    }
    client.execute("UPDATE aiki_schema SET version = $1 WHERE version <> $1", &[&LATEST]).await.map_err(refused)?;
    Ok(())
}
