//! The client over HTTP passes the suite of servers.

mod support;

use support::OverHttp;

aiki_conformance::server_conformance!(
    #[tokio::test]
    OverHttp::start().await
);
