//! The API's description, OpenAPI 3.1, made from the handlers themselves. What every endpoint shares (the security
//! scheme, the problem documents) is added here, so that no handler can forget it.

use axum::http::{Method, StatusCode};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContactBuilder, Content, InfoBuilder, LicenseBuilder, OpenApi, Ref, Response, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::access::{Right, right_of};
use super::problem::{Blame, Part, Problem};
use super::routes;

const ABOUT: &str = "Drive a Tonewall node from a CRM: find calls, mask the customer's digits, pause recording, collect \
digits, follow events.\n\nNo request and no answer ever holds a digit a customer keyed. Errors are problem documents \
(RFC 9457). Unknown fields and parameters are refused.";

/// The whole description.
pub fn document() -> OpenApi {
    let (_, mut api) = routes::closed().merge(routes::open()).split_for_parts();
    api.info = InfoBuilder::new()
        .title("Tonewall control API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .contact(
            None::<utoipa::openapi::Contact>.or_else(|| Some(ContactBuilder::new().name(Some("Tonewall")).build())),
        )
        .build();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key of the configuration. Roles: admin, supervisor, integration, agent, auditor."))
        .build();
    let parts = api.components.take().unwrap_or_default();
    let mut parts = ComponentsBuilder::from(parts)
        .security_scheme("apiKey", SecurityScheme::Http(scheme))
        .schema("Problem", Problem::schema())
        .schema("Blame", Blame::schema())
        .schema("Part", Part::schema());
    let mut schemas = Vec::new();
    <Problem as ToSchema>::schemas(&mut schemas);
    parts = parts.schemas_from_iter(schemas);
    api.components = Some(parts.build());
    for (path, item) in &mut api.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(operation), Some(right)) = (operation, right_of(&method, path)) {
                finish(operation, path, right);
            }
        }
    }
    api
}

/// Adds what every closed endpoint has: its security, the role it wants, and its problems.
fn finish(operation: &mut Operation, path: &str, right: Right) {
    operation.security = Some(vec![SecurityRequirement::new("apiKey", Vec::<String>::new())]);
    let roles: Vec<&str> = super::access::ROLES
        .into_iter()
        .filter(|role| super::access::allows(*role, right))
        .map(super::access::role_name)
        .collect();
    let description = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{description}\n\nRoles: {}.", roles.join(", ")).trim().to_owned());
    let mut problems = vec![
        (StatusCode::UNAUTHORIZED, "No key, or not one this node knows"),
        (StatusCode::FORBIDDEN, "The key's role, or the owner of the hold, does not allow it"),
        (StatusCode::SERVICE_UNAVAILABLE, "The node is stopping or overloaded"),
    ];
    if path.contains('{') {
        problems.push((StatusCode::NOT_FOUND, "It is not there, or no longer"));
    }
    if path.contains("{call}") {
        problems
            .push((StatusCode::CONFLICT, "The state of the call does not allow it, or the key names several calls"));
    } else if path.ends_with("{alarm}") {
        problems.push((StatusCode::CONFLICT, "It ends by itself when its cause does"));
    }
    if path.contains("{recording}") {
        problems.push((StatusCode::CONFLICT, "The state of the recording does not allow it, or it cannot be read"));
    }
    if operation.request_body.is_some() {
        problems.push((StatusCode::BAD_REQUEST, "The body is not JSON"));
        problems.push((StatusCode::PAYLOAD_TOO_LARGE, "The body has more than 16 KiB"));
        problems.push((StatusCode::UNSUPPORTED_MEDIA_TYPE, "The Content-Type is not JSON"));
    }
    let asks = matches!(right, Right::SeeRecordings | Right::HearRecordings);
    if operation.request_body.is_some()
        || asks
        || path == "/v1/calls"
        || path.ends_with("events")
        || path.ends_with("/dead")
    {
        problems.push((StatusCode::UNPROCESSABLE_ENTITY, "A field or parameter is unknown, missing or out of range"));
    }
    for (status, description) in problems {
        let response = operation.responses.responses.entry(status.as_str().to_owned());
        response.or_insert_with(|| problem(description).into());
    }
}

fn problem(description: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build()
}
