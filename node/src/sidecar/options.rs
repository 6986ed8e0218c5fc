//! What options of files, services and methods ask for beside what is served: read as bytes, since nobody here has descriptors for
//! them.
//!
//! Not here: keys (`key`), and routes (`transcode`). Contract: what is asked for and not gone by is said, lest somebody relies on it.

use anabranch_crdt::Type;
use prost_reflect::{DynamicMessage, MethodDescriptor, ServiceDescriptor};

use super::key::{encoded, parts};
use super::problem::{Class, Problem};

/// Options of a file, of a service and of a method (all of one number), of a service's generated code, and within that and a file's
/// what an entity is.
const OPTION: u32 = 1080;
const CODEGEN_OPTION: u32 = 1081;
const REPLICATED_ENTITY: u32 = 3;
const ENTITY_TYPE: u32 = 2;
/// Within those of a file, of a service and of a method: who may call.
const FILE_ACL: u32 = 4;
const SERVICE_ACL: u32 = 3;
const METHOD_JWT: u32 = 3;
const METHOD_ACL: u32 = 5;
/// Within those of a service and of a method: what it is fed by, and feeds.
const SERVICE_EVENTING: u32 = 4;
const METHOD_EVENTING: u32 = 1;
const IN: u32 = 1;
const OUT: u32 = 2;
/// What a method may be fed by, for people; a stream of another service says more than its name.
const SOURCES: [(u32, &str); 4] = [
    (2, "topic"),
    (3, "event sourced entity"),
    (4, "value entity"),
    (7, "the stream of another service"),
];
const DIRECT: u32 = 7;
/// The fields that say what type an entity is of.
const TYPES: [(u32, Type); 8] = [
    (3, Type::PnCounter),
    (4, Type::LwwRegister),
    (5, Type::OrSet),
    (6, Type::OrMap),
    (7, Type::CounterMap),
    (8, Type::RegisterMap),
    (9, Type::MultiMap),
    (10, Type::Vote),
];

/// The type that entities of a kind have by the options of their service, or of its file.
pub fn declared(service: &ServiceDescriptor, kind: &str) -> Option<Type> {
    let (of_service, of_file) = (service.options(), service.parent_file().options());
    let (of_service, of_file) = (encoded(&of_service).ok()?, encoded(&of_file).ok()?);
    let of_service = parts(&of_service, CODEGEN_OPTION);
    let of_file = parts(&of_file, OPTION);
    let mut definitions = of_service
        .chain(of_file)
        .flat_map(|option| parts(option, REPLICATED_ENTITY));
    definitions.find_map(|definition| {
        let is_it = parts(definition, ENTITY_TYPE).any(|name| name == kind.as_bytes());
        let of = |(number, ty): &(u32, Type)| parts(definition, *number).next().map(|_| *ty);
        TYPES.iter().filter(|_| is_it).find_map(of)
    })
}

/// Who may call.
pub fn unguarded(service: &ServiceDescriptor) -> Option<Problem> {
    let guarded = says(&service.parent_file().options(), &[FILE_ACL])
        || says(&service.options(), &[SERVICE_ACL])
        || service
            .methods()
            .any(|method| says(&method.options(), &[METHOD_JWT, METHOD_ACL]));
    guarded.then(|| {
        let text = format!(
            "{}: access control lists and JWTs in its options, or its file's, are not gone by: every caller of the ingress is served",
            service.full_name()
        );
        Problem::warning(text, &service.parent_file(), &[service.path()]).of(Class::Options)
    })
}

/// What is to come from topics, entities and other services, or to go there.
pub fn unconnected(service: &ServiceDescriptor) -> Vec<Problem> {
    let file = service.parent_file();
    let of_service = says(&service.options(), &[SERVICE_EVENTING]).then(|| {
        let text = format!(
            "{}: the eventing in its options is not gone by: nothing is delivered to it or published from it here",
            service.full_name()
        );
        Problem::warning(text, &file, &[service.path()]).of(Class::Options)
    });
    let of_methods = service.methods().flat_map(|method| {
        let name = method.full_name();
        let (from, goes_out) = eventing(&method);
        let fed = from.map(|from| {
            format!(
                "{name}: its eventing.in ({from}) is not gone by: nothing is delivered to it here, and every caller of the ingress \
                 may call it; have somebody call it, or run this component elsewhere"
            )
        });
        let feeds = goes_out.then(|| {
            format!(
                "{name}: its eventing.out is not gone by: what it answers is published nowhere, and goes to its caller alone"
            )
        });
        let warn = |text| Problem::warning(text, &file, &[method.path()]).of(Class::Options);
        fed.into_iter().chain(feeds).map(warn).collect::<Vec<_>>()
    });
    of_service.into_iter().chain(of_methods).collect()
}

/// Whether a method waits for what is never delivered to it: nobody is meant to call it.
pub fn is_fed(method: &MethodDescriptor) -> bool {
    eventing(method).0.is_some()
}

/// What a method is fed by, and whether it feeds something.
fn eventing(method: &MethodDescriptor) -> (Option<String>, bool) {
    let options = encoded(&method.options()).unwrap_or_default();
    let eventing = || parts(&options, OPTION).flat_map(|option| parts(option, METHOD_EVENTING));
    let from = eventing().find_map(|eventing| {
        let source = parts(eventing, IN).next()?;
        let named = SOURCES.iter().find_map(|(number, what)| {
            let name = parts(source, *number).next()?;
            Some(match *number {
                DIRECT => (*what).to_owned(),
                _ => format!("{what} {:?}", String::from_utf8_lossy(name)),
            })
        });
        Some(named.unwrap_or_else(|| "of no source".to_owned()))
    });
    let goes_out = eventing().any(|eventing| parts(eventing, OUT).next().is_some());
    (from, goes_out)
}

/// Whether one of these is within an option.
fn says(options: &DynamicMessage, wanted: &[u32]) -> bool {
    let options = encoded(options).unwrap_or_default();
    let mut own = parts(&options, OPTION);
    own.any(|option| {
        wanted
            .iter()
            .any(|number| parts(option, *number).next().is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::protos;

    fn service(text: &str) -> ServiceDescriptor {
        let pool = protos::pool(&format!(
            r#"syntax = "proto3"; import "kalix/annotations.proto"; {text}"#
        ));
        pool.get_service_by_name("S").unwrap()
    }

    #[test]
    fn who_waits_for_events_is_told_that_none_come() {
        let texts = |text: &str| -> Vec<String> {
            let problems = unconnected(&service(text));
            problems.iter().map(Problem::to_string).collect()
        };
        let told = texts(
            r#"message M {} service S {
            rpc A(M) returns (M) { option (kalix.method).eventing.in.topic = "orders"; }
            rpc B(M) returns (M) { option (kalix.method).eventing = { in { direct { service: "x" } } out { topic: "y" } }; }
            rpc C(M) returns (M) { option (kalix.method).entity.key_generator = 1; }
            rpc D(M) returns (M); }"#,
        );
        assert_eq!(told.len(), 3, "{told:?}");
        let in_a = r#"S.A: its eventing.in (topic "orders") is not gone by: nothing is delivered to it"#;
        assert!(
            told[0].contains(in_a) && told[0].starts_with("test.proto:2"),
            "{told:?}"
        );
        assert!(
            told[1].contains("S.B: its eventing.in (the stream of another service)"),
            "{told:?}"
        );
        assert!(
            told[2].contains("S.B: its eventing.out is not gone by"),
            "{told:?}"
        );
        let of_service = r#"service S { option (kalix.service).eventing.in.direct.service = "x"; }"#;
        assert_eq!(texts(of_service).len(), 1);
        assert_eq!(texts("service S {}").len(), 0);
    }
}
