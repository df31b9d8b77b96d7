//! A Postgres for tests. Never published.
//!
//! Where it comes from: `AIKI_TEST_POSTGRES_URL`; a container, when `AIKI_TEST_POSTGRES` is `docker`; the binaries of
//! this machine, also when it is `binary`; else a container, when a Docker daemon answers (feature `docker`). All test processes of a
//! machine share one and use a schema of their own, since an own Postgres costs a second and more. Tests that stop,
//! kill or freeze it start their own, a [`PostgresServer`].

#[cfg(feature = "docker")]
mod container;
mod server;
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

pub use server::PostgresServer;

/// The variable that names a Postgres to use instead of starting one.
pub const URL_VARIABLE: &str = "AIKI_TEST_POSTGRES_URL";
/// The variable that says how a Postgres is to be started: `docker` or `binary`.
pub const KIND_VARIABLE: &str = "AIKI_TEST_POSTGRES";
/// What to do when there is none.
pub(crate) const HOW_TO_GET_ONE: &str = "install postgresql (15 or later) or set AIKI_TEST_POSTGRES_URL";

static URL: OnceCell<String> = OnceCell::const_new();
static SCHEMAS: AtomicU64 = AtomicU64::new(0);

/// The address of a Postgres for this process.
///
/// # Panics
/// When there is none, with a line that says how to get one.
pub async fn url() -> String {
    URL.get_or_init(find).await.clone()
}

#[allow(clippy::panic)]
async fn find() -> String {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        println!("Postgres: the one of {URL_VARIABLE}");
        return url;
    }
    let kind = std::env::var(KIND_VARIABLE).ok();
    let found = match kind.as_deref() {
        Some("binary") => shared::attach().await,
        #[cfg(feature = "docker")]
        Some("docker") => container::start().await,
        #[cfg(not(feature = "docker"))]
        Some("docker") => Err("containers are for the tests of the whole workspace: leave -p out".to_owned()),
        Some(other) => panic!("{KIND_VARIABLE} is {other:?}: it must be docker or binary, or not be set"),
        None if server::binaries().is_some() => shared::attach().await,
        #[cfg(feature = "docker")]
        None if container::daemon_answers().await => container::start().await,
        None => Err("there are no binaries and no Docker daemon".to_owned()),
    };
    found.unwrap_or_else(|why| panic!("no Postgres for this test ({why}): {HOW_TO_GET_ONE}"))
}

/// A schema that no other test uses. It goes with this value.
#[derive(Debug)]
pub struct Schema {
    /// Where the database is.
    pub url: String,
    /// The schema's name.
    pub name: String,
}

impl Schema {
    /// In the shared database.
    pub async fn fresh() -> Self {
        Self::fresh_in(url().await)
    }

    /// In a database of one's own.
    pub fn fresh_in(url: String) -> Self {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let count = SCHEMAS.fetch_add(1, Ordering::SeqCst);
        Self { url, name: format!("t_{}_{count}_{since}", std::process::id()) }
    }

    /// A plain connection that looks into the schema.
    ///
    /// # Panics
    /// When there is none.
    pub async fn connect(&self) -> Client {
        connect(&self.url, &self.name).await
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if std::env::var(URL_VARIABLE).as_deref() != Ok(&self.url) {
            return;
        }
        // Somebody else's database is left as it was.
        let (url, name) = (self.url.clone(), self.name.clone());
        let drop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let work = async {
                connect(&url, "public").await.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await
            };
            runtime.map(|runtime| runtime.block_on(work).is_ok())
        };
        let _ = std::thread::spawn(drop).join();
    }
}

/// A plain connection with a search path.
///
/// # Panics
/// When there is none.
#[allow(clippy::expect_used)]
pub async fn connect(url: &str, schema: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {schema}")).await.expect("Postgres answers");
    client
}
