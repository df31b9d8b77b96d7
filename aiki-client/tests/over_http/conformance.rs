//! The client over HTTP passes the suite of servers.

use crate::support::OverHttp;

aiki_conformance::server_conformance!(
    #[tokio::test]
    OverHttp::start().await
);
