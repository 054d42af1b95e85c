//! How spans get to the collector.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use regraft_pg::Environment;

use super::{ENDPOINT, HEADERS, TRACES_ENDPOINT, given};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Whether the last request came to nothing.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Whether the last request to the collector came to nothing.
pub(super) fn failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// The exporter that the environment asks for; `None` where it asks for none. The error doesn't
/// repeat the address, which may hold a password.
pub(super) fn exporter(environment: &Environment) -> Option<Result<SpanExporter, String>> {
    let endpoint = match (
        given(environment, TRACES_ENDPOINT),
        given(environment, ENDPOINT),
    ) {
        (Some(whole), _) => whole.to_owned(),
        (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
        (None, None) => return None,
    };
    let built = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_headers(headers(environment))
        .with_http_client(Client::new())
        // Spans of a collector that is away are given up before the next ones come.
        .with_retry_policy(RetryPolicy::recommended().with_max_retries(1))
        .with_timeout(LIMIT)
        .build();
    let wrong =
        |_| format!("{ENDPOINT} is no address of a collector, such as http://localhost:4318");
    Some(built.map_err(wrong))
}

/// `name=value` pairs with commas between them.
fn headers(environment: &Environment) -> HashMap<String, String> {
    let given = given(environment, HEADERS).unwrap_or_default();
    given
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Sends by the HTTP client that notices are sent with. It blocks the thread that it is called on,
/// which is the exporter's own.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false);
        Self(config.build().into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut sent = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let body = Bytes::from(sent.body_mut().read_to_vec()?);
        let mut response = Response::new(body);
        *response.status_mut() = sent.status();
        Ok(response)
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let done = self.send(request);
            let delivered = done
                .as_ref()
                .is_ok_and(|response| response.status().is_success());
            FAILED.store(!delivered, Ordering::Relaxed);
            done
        })
    }
}
