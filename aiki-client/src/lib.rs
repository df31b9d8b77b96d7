//! The HTTP client of Aiki. Its transport arrives with the HTTP server.
