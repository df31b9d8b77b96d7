//! All processes of a campaign, and the lines between them.

use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aiki::{Client, ClientConfig};
use aiki_core::Name;
use test_postgres::PostgresServer;
use tokio::sync::Mutex;

use super::clock::Clock;
use super::fail_point::SLOW_COMMITS;
use super::notes::{Notes, wall_ms};
use super::options::{Database, Options};
use super::process::{Process, Usage};
use super::profile::REQUEST;
use super::worker::{KEY, REDIS};
use crate::program;
use crate::redis::{Proxy, RedisServer};

/// Anything that keeps a campaign from going on.
pub type Broken = Box<dyn Error + Send + Sync>;

/// A worker in its place.
#[derive(Debug)]
pub struct WorkerPlace {
    /// Its name.
    pub name: String,
    /// The process.
    pub process: Process,
    /// What it used when it had just begun.
    pub baseline: Usage,
}

/// A server in its place.
#[derive(Debug)]
pub struct ServerPlace {
    /// Where it listens.
    pub port: u16,
    /// The process.
    pub process: Process,
    /// What it used when it had just begun.
    pub baseline: Usage,
}

/// What must not be found in any log.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The password of Redis.
    pub redis: String,
    /// The key of the campaign, which is an admin.
    pub admin: String,
    /// The key of the workers.
    pub worker: String,
}

/// The processes.
#[derive(Debug)]
pub struct House {
    folder: PathBuf,
    options: Options,
    /// Where the database's file is, if it is one.
    store: PathBuf,
    database: String,
    /// The Postgres of the campaign, if it has one.
    pub postgres: Option<Mutex<PostgresServer>>,
    /// Redis.
    pub redis: Mutex<RedisServer>,
    redis_port: u16,
    /// The servers.
    pub servers: Vec<Mutex<ServerPlace>>,
    /// The workers.
    pub workers: Vec<Mutex<WorkerPlace>>,
    /// Between each worker and its server.
    pub to_server: Vec<Proxy>,
    /// Between each worker and Redis.
    pub to_redis: Vec<Proxy>,
    /// Between the callers and the first server.
    pub callers: Proxy,
    /// What must not be found in any log.
    pub secrets: Secrets,
    /// Counts processes, for their names.
    started: AtomicU32,
    /// Whether every process is wanted from here on.
    pub over: AtomicBool,
}

impl House {
    /// Starts all of it. `folder` is an empty directory, `store` is where the database's file goes.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(options: &Options, folder: &Path, store: &Path) -> Result<Self, Broken> {
        for name in ["notes", "logs", "orders"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        let password = format!("redis-{:016x}", fastrand::u64(..));
        let log = folder.join("logs/redis.log").display().to_string();
        let redis = RedisServer::start_with(&[
            "--requirepass",
            &password,
            "--logfile",
            &log,
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ])
        .await;
        let redis_port = redis.port();
        let (database, postgres) = match options.database {
            Database::Sqlite => (format!("sqlite://{}", store.join("aiki.db").display()), None),
            Database::Postgres => {
                let postgres = PostgresServer::start_with(&["max_connections=100"]).await;
                (postgres.url(), Some(postgres))
            }
        };
        let (admin, worker) = (key(&database, "admin", folder)?, key(&database, "worker", folder)?);
        let secrets = Secrets { redis: password, admin, worker };
        let mut house = Self {
            folder: folder.to_owned(),
            options: options.clone(),
            store: store.to_owned(),
            database,
            postgres: postgres.map(Mutex::new),
            redis: Mutex::new(redis),
            redis_port,
            servers: Vec::new(),
            workers: Vec::new(),
            to_server: Vec::new(),
            to_redis: Vec::new(),
            callers: Proxy::to(0).await,
            secrets,
            started: AtomicU32::new(0),
            over: AtomicBool::new(false),
        };
        for _ in 0..options.servers {
            let port = free_port()?;
            let server = house.serve(port).await?;
            house.servers.push(Mutex::new(server));
        }
        let ports: Vec<u16> = house.servers.iter_mut().map(|server| server.get_mut().port).collect();
        house.callers = Proxy::to(ports[0]).await;
        for at in 0..options.workers {
            house.to_server.push(Proxy::to(ports[at % ports.len()]).await);
            house.to_redis.push(Proxy::to(redis_port).await);
        }
        for at in 0..options.workers {
            let worker = house.employ(at, Clock::Right).await?;
            house.workers.push(Mutex::new(worker));
        }
        Ok(house)
    }

    /// Where the notes are.
    pub fn notes(&self) -> PathBuf {
        self.folder.join("notes")
    }

    /// Where the database's file is.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Where the logs are.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The database's file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        (self.options.database == Database::Sqlite).then(|| self.store.join("aiki.db"))
    }

    /// The address of Redis, without a proxy.
    pub fn redis_url(&self) -> String {
        self.redis_at(self.redis_port)
    }

    fn redis_at(&self, port: u16) -> String {
        format!("redis://:{}@127.0.0.1:{port}", self.secrets.redis)
    }

    /// A client of the campaign.
    ///
    /// # Errors
    /// When there can be none.
    pub async fn client(&self) -> Result<Client, Broken> {
        let key = serde_json::to_value(&self.secrets.admin)?;
        let mut config = ClientConfig::new(format!("127.0.0.1:{}", self.callers.port()));
        config.api_key = Some(serde_json::from_value(key)?);
        config.namespace = Some(Name::new("default"));
        config.request_timeout = REQUEST * 2;
        Ok(aiki::connect(config).await?)
    }

    /// Notes of the campaign itself.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn own_notes(&self) -> Result<Notes, Broken> {
        self.own_notes_of("campaign")
    }

    /// Notes of a part of the campaign.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn own_notes_of(&self, part: &str) -> Result<Notes, Broken> {
        Ok(Notes::open(&self.notes(), part)?)
    }

    /// Starts a server on this port.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn serve(&self, port: u16) -> Result<ServerPlace, Broken> {
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--listen", &listen, "--database", &self.database, "--log-level", &self.options.log_level];
        let mut command = program::command(&sibling("server-program")?, &arguments);
        command.env("AIKI_REDIS", self.redis_url()).env(SLOW_COMMITS, self.slow_commits(port));
        let log = self.logs().join(format!("server-{port}.log"));
        let process = Process::start(command, log, "serving").await?;
        let baseline = process.usage();
        Ok(ServerPlace { port, process, baseline })
    }

    /// The file that makes the commits of the server on this port slow.
    pub fn slow_commits(&self, port: u16) -> PathBuf {
        self.folder.join(format!("slow-{port}.now"))
    }

    /// Where workers find what their handlers are ordered to do.
    pub fn orders(&self) -> PathBuf {
        self.folder.join("orders")
    }

    /// How often the log of the server on this port has this text.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn told(&self, port: u16, text: &str) -> Result<u64, Broken> {
        let log = std::fs::read(self.logs().join(format!("server-{port}.log")))?;
        Ok(String::from_utf8_lossy(&log).matches(text).count() as u64)
    }

    /// Starts a worker with this clock for this place.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn employ(&self, at: usize, clock: Clock) -> Result<WorkerPlace, Broken> {
        let name = format!("w{at}-{}", self.started.fetch_add(1, Ordering::SeqCst));
        let Options { slots, log_level, .. } = &self.options;
        let mut command = Command::new(std::env::current_exe()?);
        let url = format!("http://127.0.0.1:{}", self.to_server[at].port());
        command.args(["worker", "--url", &url, "--name", &name, "--slots", &slots.to_string()]);
        command.args(["--log-level", log_level]).arg("--notes").arg(self.notes());
        command.arg("--orders").arg(self.orders()).stdin(Stdio::null());
        // The backtrace of a planned panic maps all that the compiler tells of the program: far more than it works with.
        command.env("RUST_BACKTRACE", "0");
        if let Some(bug) = self.options.broken {
            command.args(["--broken", &bug.name()]);
        }
        command.env(KEY, &self.secrets.worker).env(REDIS, self.redis_at(self.to_redis[at].port()));
        clock.set(&mut command)?;
        let log = self.logs().join(format!("{name}.log"));
        let process = Process::start(command, log.clone(), "ready\n").await?;
        has_clock(&log, clock)?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let baseline = process.usage();
        Ok(WorkerPlace { name, process, baseline })
    }
}

/// What a worker's clock says stands before `ready` in its log. A wrong clock that is right tests nothing.
fn has_clock(log: &Path, clock: Clock) -> Result<(), Broken> {
    /// How long the start of a worker may take.
    const NEAR_MS: u64 = 120_000;
    let text = std::fs::read_to_string(log)?;
    let told = text.lines().find_map(|line| line.strip_suffix(" ready")?.parse::<u64>().ok());
    let told = told.ok_or("a worker does not tell its time")?;
    match told.abs_diff(wall_ms().saturating_add_signed(clock.off_ms())) {
        0..NEAR_MS => Ok(()),
        _ => Err(format!("a worker should have the clock {clock:?} and says {told}").into()),
    }
}

/// A key for the server, made by its own program.
fn key(database: &str, role: &str, folder: &Path) -> Result<String, Broken> {
    let file = folder.join(format!("{role}.key"));
    let path = file.display().to_string();
    let arguments = ["keys", "create", "--database", database, "--namespace", "default", "--role", role];
    let output = program::command(&sibling("server-program")?, &arguments).args(["--output", &path]).output()?;
    if !output.status.success() {
        return Err(format!("no key was made: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(std::fs::read_to_string(&file)?.trim().to_owned())
}

/// A program beside this one.
fn sibling(name: &str) -> Result<String, Broken> {
    let path = std::env::current_exe()?.with_file_name(name);
    match path.exists() {
        true => Ok(path.display().to_string()),
        false => Err(format!("{} is missing: cargo build -p integration-tests --bins", path.display()).into()),
    }
}

/// A port below those that the system gives away, so that nobody has it while a server is down.
fn free_port() -> Result<u16, Broken> {
    let first = fastrand::u16(..20_000);
    let mut ports = (0..20_000).map(|at| 12_000 + (first + at) % 20_000);
    Ok(ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).ok_or("no free port")?)
}
