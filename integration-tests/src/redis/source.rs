//! Where a Redis for a test comes from.

use super::RedisServer;

/// The variable that names a Redis to use instead of starting one.
pub const URL_VARIABLE: &str = "AIKI_TEST_REDIS_URL";

/// A Redis for one test, and its URL. Tests of one run may share it: use names of your own.
#[derive(Debug)]
pub enum Source {
    /// Somebody else's; it may hold other things.
    Given(String),
    /// A process of this test's own.
    Own(RedisServer),
}

impl Source {
    /// Finds a Redis and prints which.
    ///
    /// # Panics
    /// When there is none, with a line that says how to get one.
    pub async fn find() -> Self {
        if let Ok(url) = std::env::var(URL_VARIABLE) {
            println!("Redis: the one of {URL_VARIABLE}");
            return Self::Given(url);
        }
        Self::Own(RedisServer::start().await)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        match self {
            Self::Given(url) => url.clone(),
            Self::Own(server) => server.url(),
        }
    }
}
