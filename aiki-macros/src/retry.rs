//! `retry = ...`: a strategy by its name, or an expression.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, LitInt, LitStr, Token, parenthesized};

use crate::duration;

const FORMS: &str = "never, fixed(3, \"200ms\"), exponential(3, \"1s\") or jittered(3, \"1s\"); the last two also take \
                     factor = 3 and max_delay = \"30s\"";

/// How failed attempts are repeated.
#[derive(Debug)]
pub(crate) enum Retry {
    Never,
    Strategy { name: Ident, max_attempts: u64, delay: Duration, factor: Option<u32>, max_delay: Option<Duration> },
    Expression(Expr),
}

impl Parse for Retry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !is_strategy(input) {
            return input.parse().map(Self::Expression);
        }
        let name: Ident = input.parse()?;
        match name.to_string().as_str() {
            "never" if !input.peek(syn::token::Paren) => Ok(Self::Never),
            "fixed" | "exponential" | "jittered" if input.peek(syn::token::Paren) => {
                let arguments;
                parenthesized!(arguments in input);
                let strategy = parse_strategy(name, &arguments)?;
                if arguments.is_empty() { Ok(strategy) } else { Err(arguments.error(form_error("this is too much"))) }
            }
            known @ ("never" | "fixed" | "exponential" | "jittered") => {
                Err(syn::Error::new(name.span(), form_error(&format!("`{known}` is not written so"))))
            }
            unknown => {
                let problem = format!("`{unknown}` is not a retry strategy");
                let braces = "an expression of your own goes into braces";
                Err(syn::Error::new(name.span(), format!("{}; {braces}", form_error(&problem))))
            }
        }
    }
}

/// A lower-case name that is not the beginning of a longer expression.
fn is_strategy(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    let Ok(name) = ahead.call(Ident::parse_any) else { return false };
    let lower = name.to_string().starts_with(|c: char| c.is_ascii_lowercase());
    let longer = ahead.peek(Token![::]) || ahead.peek(Token![.]) || ahead.peek(Token![!]);
    lower && !longer && input.peek(Ident)
}

fn form_error(problem: &str) -> String {
    format!("{problem}: write {FORMS}")
}

fn parse_strategy(name: Ident, arguments: ParseStream<'_>) -> syn::Result<Retry> {
    let grows = name != "fixed";
    let attempts: LitInt = arguments.parse().map_err(|error| syn::Error::new(error.span(), form_error("attempts")))?;
    let max_attempts = at_least_one(&attempts, "the first attempt counts, so there is at least 1")?;
    arguments
        .parse::<Token![,]>()
        .map_err(|error| syn::Error::new(error.span(), form_error("the delay is missing")))?;
    let delay: LitStr = arguments
        .parse()
        .map_err(|error| syn::Error::new(error.span(), form_error("the delay is a text such as \"1s\"")))?;
    let delay = duration::parse(&delay)?;
    let (mut factor, mut max_delay) = (None, None);
    while arguments.parse::<Option<Token![,]>>()?.is_some() && !arguments.is_empty() {
        let option: Ident = arguments.parse().map_err(|error| syn::Error::new(error.span(), form_error("this")))?;
        arguments.parse::<Token![=]>()?;
        match option.to_string().as_str() {
            "factor" if grows && factor.is_none() => {
                factor = Some(at_least_one(&arguments.parse()?, "a factor is at least 1")?);
            }
            "max_delay" if grows && max_delay.is_none() => max_delay = Some(duration::parse(&arguments.parse()?)?),
            other => {
                let problem = format!("`{name}` does not take `{other}` here");
                return Err(syn::Error::new(option.span(), form_error(&problem)));
            }
        }
    }
    Ok(Retry::Strategy { name, max_attempts, delay, factor, max_delay })
}

fn at_least_one<T>(number: &LitInt, problem: &str) -> syn::Result<T>
where
    T: std::str::FromStr + PartialEq + Default,
    T::Err: std::fmt::Display,
{
    let value: T = number.base10_parse()?;
    if value == T::default() { Err(syn::Error::new(number.span(), problem)) } else { Ok(value) }
}

impl Retry {
    /// The strategy as an expression.
    pub(crate) fn to_expression(&self, krate: &TokenStream) -> TokenStream {
        match self {
            Self::Never => quote!(#krate::RetryStrategy::never()),
            Self::Expression(expression) => expression.to_token_stream(),
            Self::Strategy { name, max_attempts, delay, factor, max_delay } => {
                let delay = milliseconds(*delay);
                let factor = factor.map(|factor| quote!(.factor(#factor)));
                let max_delay = max_delay.map(milliseconds).map(|delay| quote!(.max_delay(#delay)));
                quote!(#krate::RetryStrategy::#name(#max_attempts, #delay) #factor #max_delay)
            }
        }
    }
}

fn milliseconds(duration: Duration) -> TokenStream {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into_token_stream();
    quote!(::core::time::Duration::from_millis(#ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Result<String, String> {
        let retry: Retry = syn::parse_str(text).map_err(|error| error.to_string())?;
        Ok(retry.to_expression(&quote!(a)).to_string().replace(' ', ""))
    }

    #[test]
    fn every_form_means_the_function_of_its_name() {
        assert_eq!(expression("never").unwrap(), "a::RetryStrategy::never()");
        let ms = |ms: u64| format!("::core::time::Duration::from_millis({ms}u64)");
        assert_eq!(expression("fixed(2, \"200ms\")").unwrap(), format!("a::RetryStrategy::fixed(2u64,{})", ms(200)));
        assert_eq!(
            expression("jittered(3, \"1s\", max_delay = \"30s\", factor = 4,)").unwrap(),
            format!("a::RetryStrategy::jittered(3u64,{}).factor(4u32).max_delay({})", ms(1000), ms(30_000))
        );
    }

    #[test]
    fn everything_else_than_a_small_name_is_an_expression() {
        for text in ["SLOW", "crate::slow()", "RetryStrategy::never()", "{ slow() }", "slow!()", "slow.clone()"] {
            assert!(expression(text).unwrap().contains(&text.replace(' ', "")), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_answered_with_the_forms() {
        for (text, named) in [
            ("exponental(3, \"1s\")", "`exponental` is not a retry strategy"),
            ("slow()", "goes into braces"),
            ("exponential", "`exponential` is not written so"),
            ("never(3)", "`never` is not written so"),
            ("fixed(3)", "the delay is missing"),
            ("fixed(3, 200)", "the delay is a text"),
            ("fixed(\"3\", \"1s\")", "exponential(3, \"1s\")"),
            ("fixed(3, \"1s\", factor = 2)", "`fixed` does not take `factor` here"),
            ("jittered(3, \"1s\", cap = 2)", "`jittered` does not take `cap` here"),
            ("jittered(3, \"1s\", factor = 2, factor = 2)", "`jittered` does not take `factor` here"),
            ("jittered(0, \"1s\")", "at least 1"),
            ("jittered(1, \"1s\", factor = 0)", "a factor is at least 1"),
            ("jittered(1, \"1 s\")", "is not a duration"),
        ] {
            let error = expression(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
