//! A connection to systemd's manager, and the values that its methods take.

use std::time::{Duration, Instant};

use rustbus::connection::Timeout;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
use rustbus::signature::{Container, Type};
use rustbus::wire::errors::MarshalError;
use rustbus::wire::marshal::MarshalContext;
use rustbus::wire::marshal::traits::SignatureBuffer;
use rustbus::{Marshal, RpcConn, Signature};

use crate::error::{Error, Result};

/// How long systemd may take over one answer or one job.
const LIMIT: Duration = Duration::from_secs(30);

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB_REMOVED: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',\
                           member='JobRemoved',path='/org/freedesktop/systemd1'";

/// The value of a unit's property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// `s`.
    Text(String),
    /// `b`.
    Flag(bool),
    /// `t`.
    Number(u64),
    /// `u`.
    Short(u32),
    /// `i`.
    Signed(i32),
    /// `x`.
    SignedLong(i64),
    /// `as`.
    Texts(Vec<String>),
    /// `au`.
    Shorts(Vec<u32>),
    /// `ay`.
    Bytes(Vec<u8>),
    /// `a(ss)`.
    Pairs(Vec<(String, String)>),
}

impl Signature for &Value {
    fn signature() -> Type {
        Type::Container(Container::Variant)
    }

    fn alignment() -> usize {
        1
    }

    fn sig_str(signature: &mut SignatureBuffer) {
        signature.push_static("v");
    }
}

impl Marshal for &Value {
    fn marshal(
        &self,
        context: &mut MarshalContext<'_, '_>,
    ) -> std::result::Result<(), MarshalError> {
        match self {
            Value::Text(value) => value.marshal_as_variant(context),
            Value::Flag(value) => value.marshal_as_variant(context),
            Value::Number(value) => value.marshal_as_variant(context),
            Value::Short(value) => value.marshal_as_variant(context),
            Value::Signed(value) => value.marshal_as_variant(context),
            Value::SignedLong(value) => value.marshal_as_variant(context),
            Value::Texts(value) => value.marshal_as_variant(context),
            Value::Shorts(value) => value.marshal_as_variant(context),
            Value::Bytes(value) => value.marshal_as_variant(context),
            Value::Pairs(value) => value.marshal_as_variant(context),
        }
    }
}

/// What a unit is given: names and values.
pub type Properties = Vec<(String, Value)>;

/// A connection to the bus that the manager is on.
pub struct Bus {
    connection: RpcConn,
}

/// An error that systemd answered with: its name and text.
#[derive(Debug)]
struct Refusal {
    name: String,
    text: String,
}

impl Bus {
    /// Connects to the bus of the user (`DBUS_SESSION_BUS_ADDRESS`), or to the system's.
    ///
    /// # Errors
    /// [`Error::Systemd`] where there is none.
    pub fn connect(user: bool) -> Result<Self> {
        let path = if user {
            rustbus::get_session_bus_path()
        } else {
            rustbus::get_system_bus_path()
        };
        let connected =
            path.and_then(|path| RpcConn::connect_to_path(path, Timeout::Duration(LIMIT)));
        let connection = connected.map_err(|error| Error::Systemd {
            action: format!(
                "connect to the {} bus",
                if user { "user's" } else { "system" }
            ),
            reason: format!("{error}; without systemd leave --systemd-cgroup out"),
        })?;
        Ok(Self { connection })
    }

    /// Starts the transient unit `name`, in the place of one of the name that has failed.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn start(&mut self, name: &str, properties: &Properties) -> Result<()> {
        let mut attempt = self.start_once(name, properties)?;
        if let Err(refusal) = &attempt
            && refusal.name.ends_with(".UnitExists")
        {
            // Of one that runs this changes nothing, and the second attempt says so again.
            let _ = self.call(manager("ResetFailedUnit"), &[name])?;
            attempt = self.start_once(name, properties)?;
        }
        attempt.map_err(|refusal| Error::Systemd {
            action: format!("start the unit {name}"),
            reason: format!("{}: {}", refusal.name, refusal.text),
        })
    }

    fn start_once(
        &mut self,
        name: &str,
        properties: &Properties,
    ) -> Result<std::result::Result<(), Refusal>> {
        let mut call = manager("StartTransientUnit");
        let pairs: Vec<(&str, &Value)> = refer(properties);
        let auxiliary: Vec<(&str, Vec<(&str, &Value)>)> = Vec::new();
        call.body
            .push_param4(name, "replace", pairs, auxiliary)
            .map_err(|error| failed(name, error))?;
        self.run_job(name, call)
    }

    /// Changes properties of a unit until the next start of the machine.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn change(&mut self, name: &str, properties: &Properties) -> Result<()> {
        let mut call = manager("SetUnitProperties");
        call.body
            .push_param3(name, true, refer(properties))
            .map_err(|error| failed(name, error))?;
        match self.call(call, &[])? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(failed(name, format!("{}: {}", refusal.name, refusal.text))),
        }
    }

    /// Stops a unit. One that is not there is stopped.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn stop(&mut self, name: &str) -> Result<()> {
        let mut call = manager("StopUnit");
        call.body
            .push_param2(name, "replace")
            .map_err(|error| failed(name, error))?;
        let stopped = self.run_job(name, call)?;
        let _ = self.call(manager("ResetFailedUnit"), &[name])?;
        match stopped {
            Err(refusal) if !refusal.name.ends_with(".NoSuchUnit") => {
                Err(failed(name, format!("{}: {}", refusal.name, refusal.text)))
            }
            _ => Ok(()),
        }
    }

    /// The control group that the manager itself is in: units are below it.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn own_group(&mut self) -> Result<String> {
        let call = MessageBuilder::new()
            .call("Get")
            .with_interface("org.freedesktop.DBus.Properties")
            .on(OBJECT)
            .at(SERVICE)
            .build();
        let answer = self.call(call, &[MANAGER, "ControlGroup"])?;
        let answer = answer.map_err(|refusal| failed("its own", refusal.text))?;
        let group: std::result::Result<String, _> = answer
            .body
            .parser()
            .get::<rustbus::wire::unmarshal::traits::Variant<'_, '_>>()
            .and_then(|variant| variant.get());
        group.map_err(|error| failed("its own", error))
    }

    /// Makes a call that queues a job for the unit `name`, and waits for the job's end.
    fn run_job(
        &mut self,
        name: &str,
        call: MarshalledMessage,
    ) -> Result<std::result::Result<(), Refusal>> {
        let rule = rustbus::standard_messages::add_match(JOB_REMOVED);
        let _ = self.call(rule, &[])?;
        let _ = self.call(manager("Subscribe"), &[])?;
        let answer = match self.call(call, &[])? {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let job: rustbus::wire::ObjectPath<&str> = answer
            .body
            .parser()
            .get()
            .map_err(|error| failed(name, error))?;
        let result = self.wait_for_job(name, job.as_ref())?;
        if result == "done" {
            Ok(Ok(()))
        } else {
            Err(failed(name, format!("the job ended as {result:?}")))
        }
    }

    fn wait_for_job(&mut self, name: &str, job: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let signal = self
                .connection
                .wait_signal(Timeout::Duration(left))
                .map_err(|error| failed(name, error))?;
            if signal.dynheader.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            let mut body = signal.body.parser();
            let fields = body.get4::<u32, rustbus::wire::ObjectPath<&str>, &str, &str>();
            if let Ok((_, path, _, result)) = fields
                && path.as_ref() == job
            {
                return Ok(result.to_owned());
            }
        }
    }

    /// Sends a call, with further texts as its arguments, and waits for the answer.
    fn call(
        &mut self,
        mut call: MarshalledMessage,
        arguments: &[&str],
    ) -> Result<std::result::Result<MarshalledMessage, Refusal>> {
        let member = call.dynheader.member.clone().unwrap_or_default();
        let failed = |reason: String| Error::Systemd {
            action: format!("call {member}"),
            reason,
        };
        for argument in arguments {
            let pushed = call.body.push_param(*argument);
            pushed.map_err(|error| failed(error.to_string()))?;
        }
        let limit = Timeout::Duration(LIMIT);
        let serial = self
            .connection
            .send_message(&mut call)
            .and_then(|sending| {
                let written = sending.write(limit);
                written.map_err(rustbus::connection::ll_conn::force_finish_on_error)
            })
            .map_err(|error| failed(error.to_string()))?;
        let answer = self
            .connection
            .wait_response(serial, limit)
            .map_err(|error| failed(error.to_string()))?;
        if answer.typ != MessageType::Error {
            return Ok(Ok(answer));
        }
        Ok(Err(Refusal {
            text: answer.body.parser().get::<String>().unwrap_or_default(),
            name: answer.dynheader.error_name.unwrap_or_default(),
        }))
    }
}

fn manager(member: &str) -> MarshalledMessage {
    MessageBuilder::new()
        .call(member)
        .with_interface(MANAGER)
        .on(OBJECT)
        .at(SERVICE)
        .build()
}

fn refer(properties: &Properties) -> Vec<(&str, &Value)> {
    properties
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

fn failed(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::Systemd {
        action: format!("have systemd manage the unit {name}"),
        reason: reason.to_string(),
    }
}
