//! All stores pass the suite of servers.

mod support;

mod memory {
    use super::support::Memory;
    aiki_conformance::server_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::start().await
    );
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::support::Kept;
    aiki_conformance::server_conformance!(
        #[tokio::test]
        Kept::sqlite().await
    );
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::support::Kept;
    aiki_conformance::server_conformance!(
        #[tokio::test]
        Kept::postgres().await
    );
}
