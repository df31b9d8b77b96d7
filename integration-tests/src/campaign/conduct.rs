//! A campaign from its beginning to its verdict.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aiki_proof::end::Gauge;
use rustix::process::Signal;
use tokio::time::sleep;

use super::callers::Callers;
use super::disk::SmallDisk;
use super::figures::Figures;
use super::house::{Broken, House};
use super::inject::{Injected, Injector};
use super::line::Line as Noted;
use super::load::{self, Job};
use super::notes::{Line, Note, monotonic_us, read_all};
use super::options::Options;
use super::plan::{Kind, plan};
use super::process::Usage;
use super::profile::LEASE;
use super::report::Report;
use super::rest::{Counted, all_ended, end};
use super::streams::{self, Found};
use super::verdict::{Evidence, Wrong, leaks};

/// How long queues may take to be empty when all runs have ended.
const EMPTYING: Duration = Duration::from_secs(30);
/// How long connections may take to be closed.
const CLOSING: Duration = Duration::from_secs(15);
/// Descriptors that a process may have more than when it began.
const DESCRIPTORS: u64 = 16;
/// Memory that a process may have more than when it began, in KiB. So short a time tells no more.
const MEMORY_KB: u64 = 160 * 1_024;
/// What SQLite's log of changes may have in the end.
const WAL_BYTES: u64 = 64_000_000;

/// Conducts a campaign in this empty directory. Answers its report, and what is wrong with the notes that show it.
///
/// # Errors
/// When the campaign itself cannot go on: a process that does not start, a fault that cannot be carried out.
pub async fn conduct(options: &Options, seed: u64, folder: &Path) -> Result<(Report, Vec<String>), Broken> {
    let begun = Instant::now();
    let store = folder.join("store");
    std::fs::create_dir_all(&store)?;
    let _disk = options.on_small_disk().then(|| SmallDisk::mount(&store)).transpose()?;
    let house = Arc::new(House::start(options, folder, &store).await?);
    let (client, notes) = (house.client().await?, house.own_notes()?);
    let jobs: Vec<Job> =
        (0..options.runs).map(|number| Job { number, tasks: options.tasks, task_ms: options.task_ms }).collect();
    let planned = plan(seed, options.faults, options.workers, options.servers, options.window(), &options.kinds());
    // What a worker does wrong is its own.
    let callers = Callers::new(&Noted::client(&client, notes.clone(), options.broken), &load::define(None), &notes);
    let (answers, outcome) = tokio::join!(callers.call(jobs, options.window()), Injector::new(&house).all(planned));
    let mut outcome = outcome?;
    let last = outcome.injected.iter().map(|fault| fault.until_us).max().unwrap_or_else(monotonic_us);
    let ended = all_ended(&client, &notes).await?;
    println!("{:7.1} s  all is over", begun.elapsed().as_secs_f64());

    let redis = emptied(&house).await?;
    let (end, twice) = end(&client, answers.started.keys().copied().collect()).await?;
    let mut wrong: Vec<Wrong> = outcome.wrong.drain(..).chain(answers.wrong.clone()).map(Wrong::from).collect();
    wrong.extend(twice.into_iter().map(|key| Wrong {
        invariant: Some(7),
        run: None,
        text: format!("there are several runs of the key {key}"),
    }));
    drop(client);
    let mut report = Report { seed, again: options.again(seed), tasks: options.tasks, ..Report::default() };
    let mut counted = Counted { redis: redis.clone(), gauges: Vec::new() };
    gauges_of_redis(&redis, &outcome.injected, options, &mut counted.gauges);
    dismiss(&house, &mut report, &mut counted, &mut wrong).await?;
    close(&house, &mut report, &mut counted, &mut wrong).await?;

    let lines = read_all(&house.notes())?;
    let evidence = Evidence {
        lines: &lines,
        injected: &outcome.injected,
        end: &end,
        counted: &counted,
        started: &answers.started,
    };
    wrong.extend(evidence.verdict());
    // Callers may hear of it later: who was deaf asks again only when its long question is over.
    let closed = lines.iter().filter(|line| matches!(line.note, Note::Reported { closes: true, .. }));
    let closed = closed.map(|line| line.at_us).max().unwrap_or(last);
    report.at_rest_after_ms = ended.map(|_| closed.saturating_sub(last) / 1_000);
    report.figures = Figures::of(&lines, &outcome.injected);
    let allowed = repetitions_allowed(options, &outcome.injected);
    if report.figures.extra_attempts > allowed && report.figures.stalls == 0 {
        let text = format!("{} extra attempts, faults explain {allowed}", report.figures.extra_attempts);
        wrong.push(Wrong { invariant: Some(11), run: None, text });
    }
    let secrets = &house.secrets;
    let named =
        [("password of Redis", &*secrets.redis), ("admin's key", &secrets.admin), ("workers' key", &secrets.worker)];
    let (leaked, log_bytes) = leaks(&house.logs(), &named)?;
    wrong.extend(leaked.into_iter().map(Wrong::from));

    let count = |numbers: &[u8]| {
        wrong.iter().filter(|one| one.invariant.is_some_and(|number| numbers.contains(&number))).count()
    };
    (report.lost, report.executed_after_record, report.double_recorders) =
        (count(&[1]), count(&[3]), count(&[4, 5, 6]));
    (report.runs, report.awaited, report.retried_by_callers) = (end.runs.len(), answers.awaited, answers.retried);
    (report.dead_letters, report.log_bytes, report.seconds) = (redis.dead, log_bytes, begun.elapsed().as_secs_f64());
    report.injected = outcome.injected;
    report.violations = wrong.iter().map(ToString::to_string).collect();
    Ok((report, wrong.iter().map(|one| with_evidence(one, &lines)).collect()))
}

/// Waits until the streams are empty.
async fn emptied(house: &House) -> Result<Found, Broken> {
    let begun = Instant::now();
    loop {
        let found = streams::look(&house.redis_url()).await?;
        if (found.entries == 0 && found.pending == 0) || begun.elapsed() > EMPTYING {
            return Ok(found);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn gauges_of_redis(found: &Found, injected: &[Injected], options: &Options, gauges: &mut Vec<Gauge>) {
    let of = |kind| injected.iter().filter(|fault| fault.kind == kind).count() as u64;
    let killed = injected.iter().filter(|fault| fault.kind.kills()).count() as u64;
    // Of a worker that was killed, or had no Redis when it ended, the consumer stays for a day.
    let consumers = options.workers as u64 + killed + of(Kind::WorkerStoppedWithoutRedis);
    let mut gauge = |name: &str, baseline: u64, now: u64| gauges.push(Gauge { name: name.to_owned(), baseline, now });
    gauge("XLEN of all streams", 0, found.entries);
    gauge("entries that are pending", 0, found.pending);
    gauge("consumers", consumers, found.consumers.len() as u64);
    gauge("dead letters", injected.iter().map(|fault| fault.malformed).sum(), found.dead);
}

fn usage_gauges(who: &str, baseline: Usage, now: Usage, gauges: &mut Vec<Gauge>) {
    let descriptors = format!("descriptors of {who} (there were {})", baseline.descriptors);
    gauges.push(Gauge { name: descriptors, baseline: baseline.descriptors + DESCRIPTORS, now: now.descriptors });
    let memory = format!("KiB of {who} (there were {})", baseline.resident_kb);
    gauges.push(Gauge { name: memory, baseline: baseline.resident_kb + MEMORY_KB, now: now.resident_kb });
}

/// Stops all workers, and sees what they leave.
async fn dismiss(
    house: &House,
    report: &mut Report,
    counted: &mut Counted,
    wrong: &mut Vec<Wrong>,
) -> Result<(), Broken> {
    for place in &house.workers {
        let mut place = place.lock().await;
        let name = place.name.clone();
        if let Some(status) = place.process.gone()? {
            wrong.push(Wrong::from(format!("worker {name} ended by itself: {status}")));
            continue;
        }
        let now = place.process.usage();
        usage_gauges(&name, place.baseline, now, &mut counted.gauges);
        if now.resident_kb > report.worker_resident_kb.1 {
            report.worker_resident_kb = (place.baseline.resident_kb, now.resident_kb);
        }
        place.process.signal(Signal::TERM)?;
        let status = place.process.ended().await?;
        if status.code() != Some(0) {
            wrong.push(Wrong::from(format!("worker {name} was told to end and ended with {status}")));
        }
        let held = streams::look(&house.redis_url()).await?.consumers;
        if let Some((consumer, _)) = held.iter().find(|(consumer, _)| consumer.starts_with(&format!("{name}:"))) {
            wrong.push(Wrong::from(format!("worker {name} has stopped, and its consumer {consumer} is still there")));
        }
        counted.redis.consumers = held;
    }
    Ok(())
}

/// Stops the servers, and sees what they leave.
async fn close(
    house: &House,
    report: &mut Report,
    counted: &mut Counted,
    wrong: &mut Vec<Wrong>,
) -> Result<(), Broken> {
    for place in &house.servers {
        let mut place = place.lock().await;
        let who = format!("the server on port {}", place.port);
        let begun = Instant::now();
        while place.process.usage().descriptors > place.baseline.descriptors + DESCRIPTORS && begun.elapsed() < CLOSING
        {
            sleep(Duration::from_millis(100)).await;
        }
        let now = place.process.usage();
        usage_gauges(&who, place.baseline, now, &mut counted.gauges);
        report.server_resident_kb = (place.baseline.resident_kb, now.resident_kb);
        if let Some(file) = house.file() {
            let wal = std::fs::metadata(file.with_extension("db-wal")).map_or(0, |data| data.len());
            report.wal_bytes = wal;
            counted.gauges.push(Gauge { name: "bytes of the WAL".into(), baseline: WAL_BYTES, now: wal });
        }
        place.process.signal(Signal::TERM)?;
        let status = place.process.ended().await?;
        if status.code() != Some(0) {
            wrong.push(Wrong::from(format!("{who} was told to end and ended with {status}")));
        }
    }
    if let Some(file) = house.file() {
        let sound = rusqlite::Connection::open(file)?;
        let sound: String = sound.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if sound != "ok" {
            wrong.push(Wrong::from(format!("the database is damaged: {sound}")));
        }
    }
    Ok(())
}

/// How many attempts faults explain: as many as a worker has slots, for each that it met; a server's fault meets all.
fn repetitions_allowed(options: &Options, injected: &[Injected]) -> u64 {
    let slots = options.slots as u64;
    let met = |fault: &Injected| match fault.kind {
        // Nobody is sure of a claim for as long as it lasts.
        Kind::LineSlow => {
            slots * options.workers as u64 * (1 + (fault.until_us - fault.from_us) / LEASE.as_micros() as u64)
        }
        Kind::ServerKilled
        | Kind::ServerFrozen
        | Kind::FsyncSlow
        | Kind::DiskSlow
        | Kind::DiskFull
        | Kind::DatabaseLocked
        | Kind::PostgresStopped => slots * options.workers as u64,
        kind if kind.kills() => slots,
        Kind::WorkerFrozen
        | Kind::WorkerStopped
        | Kind::WorkerStoppedTwice
        | Kind::WorkerStoppedWithoutRedis
        | Kind::ServerUnreachable
        | Kind::AnswersLost => slots,
        _ => 0,
    };
    injected.iter().map(met).sum()
}

fn with_evidence(wrong: &Wrong, lines: &[Line]) -> String {
    let mut text = wrong.to_string();
    for line in wrong.evidence(lines) {
        text += &format!("\n      {}", serde_json::to_string(line).unwrap_or_default());
    }
    text
}
