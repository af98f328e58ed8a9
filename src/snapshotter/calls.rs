//! Tells an observer how long each call took and what became of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use tonic::Code;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Hears of the calls on a snapshotter's socket. It is called on the path of every call: what it
/// does must not block.
pub trait CallObserver: Send + Sync + 'static {
    /// A call of that gRPC method begins.
    fn begun(&self, method: &str);
    /// A call that began has ended so; a stream's messages are still to be sent. A call whose
    /// client went away ends as `Cancelled`.
    fn ended(&self, method: &str, took: Duration, code: Code);
}

/// Puts an observer around a service.
#[derive(Clone)]
pub(crate) struct Observed(pub(crate) Option<Arc<dyn CallObserver>>);

impl<S> Layer<S> for Observed {
    type Service = ObservedService<S>;

    fn layer(&self, service: S) -> ObservedService<S> {
        ObservedService {
            service,
            observer: self.0.clone(),
        }
    }
}

/// A service whose calls are observed.
#[derive(Clone)]
pub(crate) struct ObservedService<S> {
    service: S,
    observer: Option<Arc<dyn CallObserver>>,
}

impl<S, B, A> Service<Request<B>> for ObservedService<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.observer.clone().map(|observer| {
            let path = request.uri().path();
            Call::begin(observer, path.rsplit('/').next().unwrap_or_default())
        });
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(mut call) = call {
                call.code = match &answer {
                    Ok(answer) => code(answer),
                    Err(_) => Code::Unknown,
                };
            }
            answer
        })
    }
}

/// The code of an answer: in its headers where the call has failed.
fn code<A>(answer: &Response<A>) -> Code {
    let status = answer.headers().get("grpc-status");
    status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// A call under way.
struct Call {
    observer: Arc<dyn CallObserver>,
    method: String,
    since: Instant,
    code: Code,
}

impl Call {
    fn begin(observer: Arc<dyn CallObserver>, method: &str) -> Self {
        observer.begun(method);
        Call {
            observer,
            method: method.to_owned(),
            since: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.observer
            .ended(&self.method, self.since.elapsed(), self.code);
    }
}
