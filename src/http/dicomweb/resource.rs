//! The resources of the service as data: routes, OpenAPI entries, the answer to Retrieve
//! Capabilities and the conformance statement all come from here.

use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa_axum::router::UtoipaMethodRouter;

use crate::http::Server;

/// Where the service is, below the server's own root.
pub(super) const ROOT: &str = "/dicom-web";

/// One resource with one method.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) method: Method,
    /// With names in braces.
    pub(super) path: String,
    /// Unique among all operations of the server.
    pub(super) id: String,
    /// The transaction of PS3.18 it belongs to.
    pub(super) transaction: &'static str,
    /// One sentence.
    pub(super) summary: String,
    /// More sentences.
    pub(super) description: &'static str,
    /// Types of request bodies.
    pub(super) takes: &'static [&'static str],
    /// Types of answers.
    pub(super) gives: &'static [&'static str],
    /// What the query string may hold: name and meaning.
    pub(super) parameters: &'static [(&'static str, &'static str)],
    /// Other statuses than 200, with what they mean.
    pub(super) statuses: &'static [(u16, &'static str)],
}

/// Statuses of everything that reads one thing.
pub(super) const READ_STATUSES: &[(u16, &str)] = &[
    (304, "The client has it already; see If-None-Match"),
    (400, "A UID or a parameter is malformed"),
    (401, "The API key is missing or unknown"),
    (404, "It does not exist here"),
    (406, "No accepted type is offered"),
    (422, "The pixels cannot be decoded here"),
    (503, "The server cannot answer now"),
];

/// Statuses of every search.
pub(super) const SEARCH_STATUSES: &[(u16, &str)] = &[
    (400, "A UID or a parameter is malformed"),
    (401, "The API key is missing or unknown"),
    (406, "No accepted type is offered"),
    (503, "The server cannot answer now"),
];

impl Resource {
    pub(super) fn get(path: String, id: String, summary: String) -> Self {
        Self {
            method: Method::GET,
            path,
            id,
            transaction: "",
            summary,
            description: "",
            takes: &[],
            gives: &[],
            parameters: &[],
            statuses: READ_STATUSES,
        }
    }

    /// Joins the resource with what answers it.
    pub(super) fn route(&self, handler: MethodRouter<Server>) -> UtoipaMethodRouter<Server> {
        let method = match self.method {
            Method::POST => HttpMethod::Post,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let mut paths = Paths::new();
        let item = PathItem::new(method, self.operation());
        paths.paths.insert(self.path.clone(), item);
        (Vec::new(), paths, handler)
    }

    /// The status of success.
    pub(super) fn success(&self) -> String {
        let mut statuses = self.statuses.iter().map(|(status, _)| *status);
        statuses.find(|status| (200..300).contains(status)).unwrap_or(200).to_string()
    }

    /// The names in braces of the path.
    pub(super) fn path_names(&self) -> impl Iterator<Item = &str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }

    fn operation(&self) -> Operation {
        let mut operation = OperationBuilder::new()
            .tag("dicomweb")
            .operation_id(Some(self.id.as_str()))
            .summary(Some(self.summary.as_str()))
            .description((!self.description.is_empty()).then_some(self.description));
        for name in self.path_names() {
            operation = operation.parameter(parameter(name, path_meaning(name), ParameterIn::Path));
        }
        for (name, meaning) in self.parameters {
            operation = operation.parameter(parameter(name, meaning, ParameterIn::Query));
        }
        if !self.takes.is_empty() {
            let body = self.takes.iter().fold(RequestBodyBuilder::new(), |body, media| {
                body.content(*media, ContentBuilder::new().schema(Some(schema_of(media))).build())
            });
            operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
        }
        if !self.statuses.iter().any(|(status, _)| (200..300).contains(status)) {
            let response = self.gives.iter().fold(
                ResponseBuilder::new().description("What was asked for"),
                |response, media| {
                    let schema = Some(schema_of(media));
                    response.content(*media, ContentBuilder::new().schema(schema).build())
                },
            );
            operation = operation.response("200", response.build());
        }
        for (status, meaning) in self.statuses {
            operation = operation.response(status.to_string(), self.response(*status, meaning));
        }
        operation.build()
    }

    fn response(&self, status: u16, meaning: &str) -> utoipa::openapi::Response {
        let response = ResponseBuilder::new().description(meaning);
        let tells_items = self.method == Method::POST && matches!(status, 200 | 202 | 409 | 507);
        let (media, schema) = match status {
            204 | 304 => return response.build(),
            _ if tells_items => ("application/dicom+json", schema_of("application/dicom+json")),
            _ => ("application/problem+json", RefOr::Ref(Ref::from_schema_name("Problem"))),
        };
        response.content(media, ContentBuilder::new().schema(Some(schema)).build()).build()
    }
}

fn parameter(name: &str, meaning: &str, place: ParameterIn) -> utoipa::openapi::path::Parameter {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(meaning))
        .schema(Some(string()))
        .build()
}

fn path_meaning(name: &str) -> &'static str {
    match name {
        "study" => "Study Instance UID",
        "series" => "Series Instance UID",
        "instance" => "SOP Instance UID",
        "frames" => "Frame numbers from 1, joined by commas",
        _ => "Tags and numbers of items, joined by dots, as the metadata say",
    }
}

fn string() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).into()
}

fn schema_of(media: &str) -> RefOr<Schema> {
    let object = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object));
    match media {
        "application/dicom+json" => ArrayBuilder::new().items(object()).into(),
        _ => string(),
    }
}
