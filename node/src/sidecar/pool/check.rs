//! What must hold of files before the library is given them: it takes for granted what compilers see to, and would panic, run out of
//! stack or take for ever.
//!
//! Contract: each check takes time and memory by the size of what it is given.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use super::super::scan::{Raw, fields};
use super::PoolError;

/// Messages, fields, places and so on in all files: each may take two bytes in the set, and a thousand in memory.
const DESCRIPTORS_MAX: usize = 200_000;
/// Messages within messages.
const NESTING_MAX: usize = 32;
/// Custom options and other extensions: every option is looked for among all of them.
const EXTENSIONS_MAX: usize = 1_000;
/// A message's fields are each compared with all of its ranges.
const RANGE_CHECKS_MAX: usize = 1_000_000;
/// Steps from file to file that the library takes to see what each file sees by `import public`.
const IMPORT_STEPS_MAX: usize = 1_000_000;
/// So many missing files are named, not more.
const MISSING_NAMED_MAX: usize = 10;

/// What is extended, and by which numbers.
pub(super) type Extensions = BTreeSet<(String, i32)>;

/// What a part of a file can have parts of.
#[derive(Clone, Copy)]
enum Part {
    File,
    Message,
    Field,
    Enum,
    Service,
    SourceInfo,
    Leaf,
}

impl Part {
    /// What is under this number, if it is counted.
    fn part(self, number: u32) -> Option<Part> {
        Some(match (self, number) {
            (Part::File, 4) | (Part::Message, 3) => Part::Message,
            (Part::File, 5) | (Part::Message, 4) => Part::Enum,
            (Part::File, 6) => Part::Service,
            (Part::File, 7) | (Part::Message, 2 | 6) => Part::Field,
            (Part::File, 9) => Part::SourceInfo,
            (Part::Message, 5 | 7 | 8 | 9) | (Part::Field, 8) | (Part::Enum, 2..=4) => Part::Leaf,
            (Part::Service, 2 | 3) | (Part::SourceInfo, 1) => Part::Leaf,
            _ => return None,
        })
    }
}

/// That there are not more descriptors than memory is meant for; they are not decoded for that.
pub(super) fn count(files: &[Bytes]) -> Result<(), PoolError> {
    let mut left = DESCRIPTORS_MAX;
    files
        .iter()
        .try_for_each(|file| count_part(Part::File, file, 0, &mut left))
}

fn count_part(part: Part, bytes: &[u8], depth: usize, left: &mut usize) -> Result<(), PoolError> {
    if depth > NESTING_MAX {
        let text = format!("has messages more than {NESTING_MAX} deep within others");
        return Err(PoolError::TooMuch(text));
    }
    for field in fields(bytes) {
        let (number, raw) = field.map_err(|e| PoolError::Unreadable(e.to_string()))?;
        let (Raw::Bytes(bytes), Some(part)) = (raw, part.part(number)) else {
            continue;
        };
        *left = left.checked_sub(1).ok_or_else(|| {
            PoolError::TooMuch(format!(
                "has more than {DESCRIPTORS_MAX} descriptors and places in files"
            ))
        })?;
        if !matches!(part, Part::Leaf) {
            count_part(part, bytes, depth + 1, left)?;
        }
    }
    Ok(())
}

/// That names are names, and that entries of maps are.
///
/// `extensions` are those of all files so far.
pub(super) fn file(file: &FileDescriptorProto, extensions: &mut Extensions) -> Result<(), PoolError> {
    if file.name().is_empty() {
        return Err(PoolError::Unreadable("a file in it has no name".into()));
    }
    // The library does not survive saying so itself.
    if !matches!(file.syntax.as_deref(), None | Some("proto2" | "proto3")) {
        let why = format!("its syntax is {:?}: write it in proto3 or proto2", file.syntax());
        return Err(PoolError::invalid(file.name(), why));
    }
    let package = file.package();
    if !package.is_empty() && !package.split('.').all(is_name) {
        return Err(PoolError::invalid(
            file.name(),
            format!("its package {package:?} is no name"),
        ));
    }
    let mut check = Check {
        file: file.name(),
        extensions,
    };
    file.message_type.iter().try_for_each(|m| check.message(m))?;
    file.enum_type.iter().try_for_each(|e| check.enumeration(e))?;
    file.extension.iter().try_for_each(|e| check.extension(e))?;
    for service in &file.service {
        check.name("service", service.name())?;
        let mut methods = service.method.iter();
        methods.try_for_each(|method| check.name("method", method.name()))?;
    }
    Ok(())
}

struct Check<'a> {
    file: &'a str,
    extensions: &'a mut Extensions,
}

impl Check<'_> {
    fn fail<T>(&self, why: String) -> Result<T, PoolError> {
        Err(PoolError::invalid(self.file, why))
    }

    fn name(&self, what: &str, name: &str) -> Result<(), PoolError> {
        if is_name(name) {
            return Ok(());
        }
        let name: String = name.chars().take(80).collect();
        self.fail(format!("a {what} is called {name:?}, which is no name"))
    }

    fn message(&mut self, message: &DescriptorProto) -> Result<(), PoolError> {
        self.name("message", message.name())?;
        let name = message.name();
        for field in &message.field {
            self.name("field", field.name())?;
        }
        for oneof in &message.oneof_decl {
            self.name("oneof", oneof.name())?;
        }
        let ranges =
            message.reserved_range.len() + message.reserved_name.len() + message.extension_range.len();
        if ranges.saturating_mul(message.field.len()) > RANGE_CHECKS_MAX {
            return self.fail(format!(
                "the message {name} has too many fields and reserved ranges"
            ));
        }
        if message.options.as_ref().is_some_and(|o| o.map_entry()) && !is_entry(message) {
            let why =
                "a map entry has a key (1), which is an integer, a boolean or a string, and a value (2)";
            return self.fail(format!("the message {name} is no map entry: {why}"));
        }
        message.extension.iter().try_for_each(|e| self.extension(e))?;
        message.enum_type.iter().try_for_each(|e| self.enumeration(e))?;
        // Not deeper than `count` has seen.
        message.nested_type.iter().try_for_each(|m| self.message(m))
    }

    fn enumeration(&self, enumeration: &EnumDescriptorProto) -> Result<(), PoolError> {
        self.name("enum", enumeration.name())?;
        if enumeration
            .value
            .len()
            .saturating_mul(enumeration.reserved_range.len())
            > RANGE_CHECKS_MAX
        {
            let name = enumeration.name();
            return self.fail(format!("the enum {name} has too many values and reserved ranges"));
        }
        let mut values = enumeration.value.iter();
        values.try_for_each(|value| self.name("value of an enum", value.name()))
    }

    fn extension(&mut self, extension: &FieldDescriptorProto) -> Result<(), PoolError> {
        let number = extension.number();
        let Some(of) = extension.extendee().strip_prefix('.') else {
            return self.fail(format!(
                "the extension {} does not say in full what it extends",
                extension.name()
            ));
        };
        if !self.extensions.insert((of.to_owned(), number)) {
            let why = "another extension has the same number";
            return self.fail(format!("the extension {number} of {of}: {why}"));
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            return self.fail(format!("there are more than {EXTENSIONS_MAX} extensions"));
        }
        self.name("extension", extension.name())
    }
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_entry(message: &DescriptorProto) -> bool {
    let [key, value] = &message.field[..] else {
        return false;
    };
    let is_single = |field: &FieldDescriptorProto| field.label() == Label::Optional;
    let is_key = matches!(
        key.r#type(),
        Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Sint32
            | Type::Sint64
            | Type::Fixed32
            | Type::Fixed64
            | Type::Sfixed32
            | Type::Sfixed64
            | Type::Bool
            | Type::String
    );
    // The type is said with its name, or not at all: then the name decides, and a name is no key's.
    let is_key = is_key && key.type_name.is_none();
    let is_value = value.r#type() != Type::Group;
    (key.number(), value.number()) == (1, 2) && is_single(key) && is_single(value) && is_key && is_value
}

/// That what is imported is there, that no file imports itself by way of others, and that `import public` does not branch too much.
pub(super) fn imports(
    files: &BTreeMap<String, FileDescriptorProto>,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), PoolError> {
    let mut missing = Vec::new();
    for (name, file) in files {
        let mut imported = BTreeSet::new();
        for import in &file.dependency {
            if !imported.insert(import) {
                return Err(PoolError::invalid(name, format!("it imports {import} twice")));
            }
            if !files.contains_key(import) && !is_known(import) {
                missing.push(format!("{import} (imported by {name})"));
            }
        }
        if file.public_dependency.len().max(file.weak_dependency.len()) > file.dependency.len() {
            let why = "it has more public or weak imports than imports";
            return Err(PoolError::invalid(name, why));
        }
    }
    if !missing.is_empty() {
        let more = missing.len().saturating_sub(MISSING_NAMED_MAX);
        missing.truncate(MISSING_NAMED_MAX);
        let mut text = missing.join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        return Err(PoolError::Missing(text));
    }
    steps(files)
}

/// The files in an order in which each comes after those that it imports; the ways on from each are counted on the way.
fn steps(files: &BTreeMap<String, FileDescriptorProto>) -> Result<(), PoolError> {
    let mut importers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, file) in files {
        let own = file
            .dependency
            .iter()
            .filter(|import| files.contains_key(*import));
        waiting.insert(name, own.clone().count());
        for import in own {
            importers.entry(import).or_default().push(name);
        }
    }

    let mut ready: Vec<&str> = waiting
        .iter()
        .filter(|(_, waits)| **waits == 0)
        .map(|(name, _)| *name)
        .collect();
    let (mut ways, mut steps, mut done) = (BTreeMap::new(), 0usize, 0);
    while let Some(name) = ready.pop() {
        done += 1;
        waiting.remove(name);
        let Some(file) = files.get(name) else { continue };
        let mut on = 1usize;
        for (at, import) in file.dependency.iter().enumerate() {
            // Google's own import nothing publicly.
            let further = ways.get(import.as_str()).copied().unwrap_or(1);
            steps = steps.saturating_add(further);
            if i32::try_from(at).is_ok_and(|at| file.public_dependency.contains(&at)) {
                on = on.saturating_add(further);
            }
        }
        if steps > IMPORT_STEPS_MAX {
            let why = "too many files import others with \"import public\"";
            return Err(PoolError::invalid(name, why));
        }
        ways.insert(name, on);
        for importer in importers.get(name).into_iter().flatten() {
            if let Some(waits) = waiting.get_mut(importer) {
                *waits -= 1;
                if *waits == 0 {
                    ready.push(importer);
                }
            }
        }
    }
    match waiting.keys().next() {
        Some(name) if done < files.len() => {
            let name = in_circle(files, &waiting, name);
            Err(PoolError::invalid(
                name,
                format!("{name} imports itself by way of others"),
            ))
        }
        _ => Ok(()),
    }
}

/// One of a circle of files, found from one whose imports lead there: each that waits imports another that does.
fn in_circle<'a>(
    files: &'a BTreeMap<String, FileDescriptorProto>,
    waiting: &BTreeMap<&str, usize>,
    from: &'a str,
) -> &'a str {
    let (mut at, mut seen) = (from, BTreeSet::new());
    while seen.insert(at) {
        let imports = files.get(at).map(|file| file.dependency.as_slice());
        let waits = |import: &&String| waiting.contains_key(import.as_str());
        if let Some(next) = imports.unwrap_or_default().iter().find(waits) {
            at = next;
        }
    }
    at
}
