//! Whether a connection failed because of the server's certificate.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsError};

/// How deep causes are looked into.
const DEPTH: usize = 16;

/// What is wrong with the server's certificate, and what to do, when it is neither signed by somebody who is
/// trusted nor made out for the server's name. Asking again does not help then.
pub(super) fn mistrust(error: &(dyn Error + 'static), base: &str) -> Option<String> {
    match certificate_error(error)? {
        // A bad signature: an authority of the same name has another key, as after it was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(format!(
            "the certificate of {base} is signed by an authority that is not trusted here: give the authority's \
             certificate as `caFile` in the client's configuration"
        )),
        wrong @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => Some(format!(
            "the certificate of {base} is made out for another name ({wrong}): give the name in it as `url`, or have \
             the server's certificate made out for this name"
        )),
        _ => None,
    }
}

fn certificate_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let mut cause = Some(error);
    for _ in 0..DEPTH {
        let error = cause?;
        if let Some(TlsError::InvalidCertificate(wrong)) = error.downcast_ref() {
            return Some(wrong);
        }
        // The source of an I/O error is that of the error in it.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = within.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}
