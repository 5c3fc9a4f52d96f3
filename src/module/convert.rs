//! Registrations as the wire has them, and as the plane does.

use prost::Message;

use crate::module::owner::Owner;
use crate::module::plane::connection::Connection;
use crate::module::plane::register::{Declared, Registration};
use crate::rpc::services::constellation as proto;
use crate::sdk::module::protocol::PROTOCOL_VERSION;
use crate::sdk::module::schema::Type;

/// What a provider asks for, as a program on this machine.
pub fn registration(request: proto::RegisterRequest) -> Registration {
    let len = request.encoded_len();
    let schema = |schema: Option<proto::TypeSchema>, what: &str| {
        schema.map_or_else(|| Err(format!("Missing {what}")), |schema| Type::from_wire(&schema))
    };
    let modules = request.modules.into_iter().map(|module| Declared {
        name: module.name,
        input: schema(module.input_schema, "input_schema"),
        output: schema(module.output_schema, "output_schema"),
        version: module.version,
        description: module.description,
    });
    Registration {
        len,
        namespace: request.namespace,
        group: Some(request.group_id).filter(|group| !group.is_empty()),
        executor_url: request.executor_url,
        modules: modules.collect(),
        protocol_version: request.protocol_version,
        replaces: None,
        owner: Owner::default(),
        channel: String::new(),
    }
}

/// What would be asked to register what this connection has.
pub fn request(connection: &Connection) -> proto::RegisterRequest {
    let modules = connection.modules.iter().map(|(name, module)| proto::ModuleDeclaration {
        name: name.clone(),
        input_schema: Some(module.input.to_wire()),
        output_schema: Some(module.output.to_wire()),
        version: module.version.clone(),
        description: module.description.clone(),
    });
    proto::RegisterRequest {
        namespace: connection.namespace.clone(),
        modules: modules.collect(),
        protocol_version: PROTOCOL_VERSION,
        executor_url: connection.executor.to_string(),
        group_id: connection.group.clone().unwrap_or_default(),
    }
}
