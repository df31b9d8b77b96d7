//! The function under an attribute: what is read of it, and what it must not be.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, GenericArgument, PathArguments, PathSegment, ReturnType, Signature, Type, Visibility};

use crate::options::Errors;

/// Which attribute it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Task,
    Workflow,
}

impl Kind {
    /// What the attribute makes.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Task => "task",
            Kind::Workflow => "workflow",
        }
    }

    fn context(self) -> &'static str {
        match self {
            Kind::Task => "TaskContext",
            Kind::Workflow => "Run",
        }
    }

    fn by_hand(self) -> &'static str {
        match self {
            Kind::Task => "Task::new",
            Kind::Workflow => "Workflow::new",
        }
    }
}

/// A function whose body is not looked into.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let start = input.span();
        let signature =
            input.parse().map_err(|_| syn::Error::new(start, "this attribute belongs on a free `async fn`"))?;
        if !input.peek(syn::token::Brace) {
            return Err(input.error("this attribute needs the function's body"));
        }
        Ok(Self { attributes, visibility, signature, body: input.parse()? })
    }
}

/// What a function's signature means.
pub(crate) struct Handler {
    /// Whether the function takes the context.
    pub(crate) context: bool,
    /// The type of the input, if the function takes one.
    pub(crate) input: Option<Type>,
    pub(crate) result: HandlerResult,
}

/// Where the types of output and error are found.
pub(crate) enum HandlerResult {
    /// `Result<Output, Error>`.
    Plain { output: Box<Type>, error: Box<Type> },
    /// An alias: the compiler has to look behind it.
    Alias(Box<Type>),
}

impl Handler {
    /// Reads a signature.
    ///
    /// # Errors
    /// All that keeps it from being a task or workflow.
    pub(crate) fn read(kind: Kind, signature: &Signature) -> syn::Result<Self> {
        let mut errors = Errors(None);
        check_qualifiers(kind, signature, &mut errors);
        let (context, input) = read_arguments(kind, signature, &mut errors);
        let result = read_result(kind, signature, &mut errors);
        match (errors.0, result) {
            (None, Some(result)) => Ok(Self { context, input, result }),
            (Some(error), _) => Err(error),
            (None, None) => Err(syn::Error::new(signature.span(), "this signature cannot be read")),
        }
    }
}

fn check_qualifiers(kind: Kind, signature: &Signature, errors: &mut Errors) {
    let (noun, name) = (kind.noun(), &signature.ident);
    if signature.asyncness.is_none() {
        errors.at(signature.fn_token.span, format_args!("a {noun} is asynchronous: write `async fn {name}`"));
    }
    let qualifier = [
        signature.constness.as_ref().map(|token| token.span()),
        signature.unsafety.as_ref().map(|token| token.span()),
        signature.abi.as_ref().map(Spanned::span),
        signature.variadic.as_ref().map(Spanned::span),
    ];
    for span in qualifier.into_iter().flatten() {
        errors.at(span, format_args!("a {noun} is a plain `async fn`: leave this out"));
    }
    let generics = [
        (!signature.generics.params.is_empty()).then(|| signature.generics.span()),
        signature.generics.where_clause.as_ref().map(Spanned::span),
    ];
    for span in generics.into_iter().flatten() {
        errors.at(
            span,
            format_args!(
                "a {noun} cannot be generic, because its name stands for one input and one output: write the types \
                 out, or call `{}` for each of them",
                kind.by_hand()
            ),
        );
    }
}

fn read_arguments(kind: Kind, signature: &Signature, errors: &mut Errors) -> (bool, Option<Type>) {
    let (noun, context_name) = (kind.noun(), kind.context());
    let mut types = Vec::new();
    for argument in &signature.inputs {
        match argument {
            FnArg::Typed(argument) => types.push(&*argument.ty),
            FnArg::Receiver(receiver) => errors.at(
                receiver.span(),
                format_args!(
                    "a {noun} has no `self`: make it a free function, or let a closure capture what it needs and hand \
                     it to `{}`",
                    kind.by_hand()
                ),
            ),
        }
    }
    let context = types.first().is_some_and(|first| is_named(first, context_name));
    let inputs = if context { &types[1..] } else { &types[..] };
    if !context && kind == Kind::Workflow {
        let span = types.first().map_or(signature.paren_token.span.span(), |first| first.span());
        errors.at(span, "a workflow's first argument is its run: write `run: Run`");
        return (context, None);
    }
    if let Some(problem) = inputs.first().and_then(|first| wrong_context(kind, first)) {
        errors.at(inputs[0].span(), problem);
        return (context, None);
    }
    if let Some(input) = inputs.first() {
        check_owned("the input", input, errors);
    }
    for surplus in inputs.iter().skip(1) {
        let problem = if is_named(surplus, context_name) {
            format!("`{context_name}` comes first")
        } else {
            format!("a {noun} has one input: put several values into a struct or a tuple")
        };
        errors.at(surplus.span(), problem);
    }
    (context, inputs.first().map(|input| (*input).clone()))
}

/// What is wrong with an argument that looks like a context in the place of the input.
fn wrong_context(kind: Kind, input: &Type) -> Option<&'static str> {
    let named = if let Type::Reference(reference) = input { &reference.elem } else { input };
    match kind {
        Kind::Task if is_named(named, "Run") => {
            Some("a task has no `Run`, because tasks do not nest: take `TaskContext`, and call tasks from a workflow")
        }
        Kind::Task if is_named(named, "TaskContext") => {
            Some("a task has one context and owns it: write `cx: TaskContext`")
        }
        Kind::Workflow if is_named(named, "Run") => Some("a workflow has one run"),
        Kind::Workflow if is_named(named, "TaskContext") => Some("a workflow has no `TaskContext`: that is for tasks"),
        _ => None,
    }
}

fn read_result(kind: Kind, signature: &Signature, errors: &mut Errors) -> Option<HandlerResult> {
    let noun = kind.noun();
    let ReturnType::Type(_, result) = &signature.output else {
        errors.at(signature.paren_token.span.close(), format_args!("a {noun} returns a `Result<Output, Error>`"));
        return None;
    };
    if !last_segment(result).is_some_and(|last| last.ident.to_string().ends_with("Result")) {
        let problem = format_args!("a {noun} returns a `Result<Output, Error>`, or an alias whose name ends so");
        errors.at(result.span(), problem);
        return None;
    }
    check_owned("the result", result, errors);
    Some(match result_arguments(result) {
        Some((output, error)) => {
            HandlerResult::Plain { output: Box::new(output.clone()), error: Box::new(error.clone()) }
        }
        None => HandlerResult::Alias(result.clone()),
    })
}

/// The two types of a `Result<Output, Error>`.
fn result_arguments(result: &Type) -> Option<(&Type, &Type)> {
    let last = last_segment(result).filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut types = arguments.args.iter();
    match (types.next(), types.next(), types.next()) {
        (Some(GenericArgument::Type(output)), Some(GenericArgument::Type(error)), None) => Some((output, error)),
        _ => None,
    }
}

/// Refuses references and `impl Trait`, wherever they stand in a type.
fn check_owned(what: &str, whole: &Type, errors: &mut Errors) {
    match find_unfit(whole.to_token_stream()) {
        Some((span, Unfit::Borrowed)) => {
            errors.at(span, format_args!("{what} is recorded and read again, so it cannot be borrowed: own it"));
        }
        Some((span, Unfit::Opaque)) => {
            errors.at(span, format_args!("{what} needs one type, so it cannot be an `impl Trait`: name the type"));
        }
        None => {}
    }
}

enum Unfit {
    Borrowed,
    Opaque,
}

fn find_unfit(tokens: TokenStream) -> Option<(Span, Unfit)> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Group(group) => find_unfit(group.stream()),
        TokenTree::Punct(mark) if matches!(mark.as_char(), '&' | '\'') => Some((mark.span(), Unfit::Borrowed)),
        TokenTree::Ident(word) if word == "impl" => Some((word.span(), Unfit::Opaque)),
        _ => None,
    })
}

fn is_named(candidate: &Type, name: &str) -> bool {
    last_segment(candidate).is_some_and(|last| last.ident == name)
}

fn last_segment(candidate: &Type) -> Option<&PathSegment> {
    let Type::Path(path) = candidate else { return None };
    path.path.segments.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Result<Handler, Vec<String>> {
        let signature = syn::parse_str(text).unwrap();
        Handler::read(kind, &signature).map_err(|all| all.into_iter().map(|error| error.to_string()).collect())
    }

    fn refused(kind: Kind, text: &str) -> String {
        read(kind, text).err().unwrap_or_else(|| panic!("accepted: {text}")).join("\n")
    }

    #[test]
    fn context_and_input_are_told_apart() {
        for (text, context, input) in [
            ("async fn f() -> Result<(), E>", false, false),
            ("async fn f(cx: TaskContext) -> Result<(), E>", true, false),
            ("async fn f(o: Order) -> Result<(), E>", false, true),
            ("async fn f(_: aiki::TaskContext, (a, b): (u8, u8)) -> Result<(), E>", true, true),
        ] {
            let handler = read(Kind::Task, text).unwrap();
            assert_eq!((handler.context, handler.input.is_some()), (context, input), "{text}");
        }
    }

    #[test]
    fn an_alias_of_result_is_left_to_the_compiler() {
        let result = |text: &str| read(Kind::Task, &format!("async fn f() -> {text}")).unwrap().result;
        assert!(matches!(result("Result<u8, E>"), HandlerResult::Plain { .. }));
        assert!(matches!(result("std::result::Result<Vec<u8>, E>"), HandlerResult::Plain { .. }));
        assert!(matches!(result("anyhow::Result<u8>"), HandlerResult::Alias(_)));
        assert!(matches!(result("OrderResult"), HandlerResult::Alias(_)));
    }

    #[test]
    fn signatures_that_cannot_be_tasks() {
        for (text, named) in [
            ("fn f() -> Result<(), E>", "write `async fn f`"),
            ("async unsafe fn f() -> Result<(), E>", "plain `async fn`"),
            ("async fn f<T>(t: T) -> Result<(), E>", "cannot be generic"),
            ("async fn f() -> Result<(), E> where u8: Copy", "cannot be generic"),
            ("async fn f(&self) -> Result<(), E>", "no `self`"),
            ("async fn f(a: u8, b: u8) -> Result<(), E>", "a struct or a tuple"),
            ("async fn f(a: u8, cx: TaskContext) -> Result<(), E>", "`TaskContext` comes first"),
            ("async fn f(cx: &TaskContext) -> Result<(), E>", "one context and owns it"),
            ("async fn f(run: Run) -> Result<(), E>", "tasks do not nest"),
            ("async fn f(run: &Run, a: u8) -> Result<(), E>", "tasks do not nest"),
            ("async fn f(a: &str) -> Result<(), E>", "cannot be borrowed"),
            ("async fn f(a: Cow<'static, str>) -> Result<(), E>", "cannot be borrowed"),
            ("async fn f(a: Vec<impl Copy>) -> Result<(), E>", "name the type"),
            ("async fn f() -> Result<&'static str, E>", "the result is recorded"),
            ("async fn f() -> Result<Vec<impl Copy>, E>", "the result needs one type"),
            ("async fn f() -> impl Copy", "returns a `Result<Output, Error>`"),
            ("async fn f() -> u64", "returns a `Result<Output, Error>`"),
            ("async fn f()", "returns a `Result<Output, Error>`"),
        ] {
            let error = refused(Kind::Task, text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn signatures_that_cannot_be_workflows() {
        for (text, named) in [
            ("async fn f() -> Result<(), E>", "write `run: Run`"),
            ("async fn f(order: Order) -> Result<(), E>", "write `run: Run`"),
            ("async fn f(run: &Run) -> Result<(), E>", "write `run: Run`"),
            ("async fn f(run: Run, cx: TaskContext) -> Result<(), E>", "that is for tasks"),
            ("async fn f(run: Run, a: u8, b: u8) -> Result<(), E>", "a struct or a tuple"),
        ] {
            let error = refused(Kind::Workflow, text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_context_is_one_mistake() {
        assert_eq!(refused(Kind::Task, "async fn f(run: Run, a: u8) -> Result<(), E>").lines().count(), 1);
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        assert_eq!(read(Kind::Task, "fn f<T>(&self, a: &str)").err().map(|errors| errors.len()), Some(5));
    }
}
