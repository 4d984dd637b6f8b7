//! `#[derive(Settings)]`: the JSON Schema of a plugin's settings, made from what serde will accept, and a function that reads
//! them as serde would, but is smaller.
//!
//! Supported: structs with named fields, and enums without data. The attributes of serde that change names or
//! make a field optional are read: `rename`, `rename_all`, `default`, `skip`.

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Lit, LitStr, Meta, Token};

/// Derives `weir_plugin::Settings` for a struct with named fields or an enum without data.
///
/// Doc comments become the descriptions of the schema.
#[proc_macro_derive(Settings)]
pub fn derive_settings(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<proc_macro2::TokenStream, Error> {
    let (schema, read) = match &input.data {
        Data::Struct(data) => object(input, &data.fields)?,
        Data::Enum(data) => choice(input, data)?,
        Data::Union(_) => return Err(Error::new(input.span(), "settings cannot be a union")),
    };
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::weir_plugin::Settings for #name #types #bounds {
            const SCHEMA: ::weir_plugin::schema::Schema = #schema;
            #read
        }
    })
}

/// The schema, and the function that reads; nothing where that is left to serde.
type Parts = (proc_macro2::TokenStream, proc_macro2::TokenStream);

/// A function that reads by this body.
fn reads(body: proc_macro2::TokenStream) -> proc_macro2::TokenStream {
    quote! {
        fn read(
            value: ::weir_plugin::settings::Reader,
        ) -> ::core::result::Result<Self, ::weir_plugin::settings::Refusal> {
            #body
        }
    }
}

fn object(input: &DeriveInput, fields: &Fields) -> Result<Parts, Error> {
    let Fields::Named(fields) = fields else {
        return Err(Error::new(input.span(), "settings need named fields"));
    };
    let outer = Serde::read(&input.attrs)?;
    let mut properties = Vec::new();
    let (mut keys, mut values, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let serde = Serde::read(&field.attrs)?;
        let own = &field.ident;
        if serde.skip {
            values.push(quote! { #own: ::core::default::Default::default() });
            continue;
        }
        let ident = field.ident.as_ref().expect("the fields are named").to_string();
        let name = serde.rename.unwrap_or_else(|| rename(&ident, outer.rename_all.as_deref()));
        let doc = doc(&field.attrs);
        let optional = serde.default.is_some() || outer.default.is_some();
        let ty = &field.ty;
        keys.push(name.clone());
        values.push(match &serde.default {
            None => quote! { #own: members.require(#name)? },
            Some(default) => quote! {
                #own: match members.get(#name)? {
                    ::core::option::Option::Some(value) => value,
                    ::core::option::Option::None => #default,
                }
            },
        });
        // A default of the field's own goes before that of the whole.
        let otherwise = serde.default.map(|default| quote! { else { read.#own = #default; } });
        changes.push(quote! {
            if let ::core::option::Option::Some(value) = members.get(#name)? {
                read.#own = value;
            } #otherwise
        });
        properties.push(quote! {
            ::weir_plugin::schema::Property {
                name: #name,
                doc: #doc,
                required: !#optional && !<#ty as ::weir_plugin::Settings>::SCHEMA.is_optional(),
                schema: &<#ty as ::weir_plugin::Settings>::SCHEMA,
            }
        });
    }
    let closed = outer.deny_unknown_fields;
    let schema = quote! { ::weir_plugin::schema::Schema::Object { properties: &[#(#properties),*], closed: #closed } };
    let ident = input.ident.to_string();
    let made = match &outer.default {
        None => quote! { ::core::result::Result::Ok(Self { #(#values),* }) },
        Some(default) => quote! {
            let mut read: Self = #default;
            #(#changes)*
            ::core::result::Result::Ok(read)
        },
    };
    // Other ways to rename are serde's.
    let is_known = matches!(outer.rename_all.as_deref(), None | Some("snake_case" | "kebab-case"));
    let read = is_known.then(|| {
        reads(quote! {
            #[allow(unused_mut, unused_variables)]
            let mut members = value.object(#ident, &[#(#keys),*], #closed)?;
            #made
        })
    });
    Ok((schema, read.unwrap_or_default()))
}

fn choice(input: &DeriveInput, data: &syn::DataEnum) -> Result<Parts, Error> {
    let outer = Serde::read(&input.attrs)?;
    let mut names = Vec::new();
    let (mut words, mut variants) = (Vec::new(), Vec::new());
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.span(), "an enum of settings cannot carry data"));
        }
        let serde = Serde::read(&variant.attrs)?;
        let ident = variant.ident.to_string();
        let name = serde.rename.unwrap_or_else(|| match outer.rename_all.as_deref() {
            Some("snake_case") => separated(&ident, '_'),
            Some("kebab-case") => separated(&ident, '-'),
            Some("lowercase") => ident.to_lowercase(),
            _ => ident.clone(),
        });
        let doc = doc(&variant.attrs);
        names.push(quote! { (#name, #doc) });
        words.push(name);
        variants.push(&variant.ident);
    }
    let schema = quote! { ::weir_plugin::schema::Schema::Choice(&[#(#names),*]) };
    let ident = input.ident.to_string();
    let is_known = matches!(outer.rename_all.as_deref(), None | Some("snake_case" | "kebab-case" | "lowercase"));
    let Some((last, others)) = variants.split_last().filter(|_| is_known) else {
        return Ok((schema, proc_macro2::TokenStream::new()));
    };
    let numbers = 0..others.len();
    let read = reads(quote! {
        ::core::result::Result::Ok(match value.choice(#ident, &[#(#words),*])? {
            #(#numbers => Self::#others,)*
            _ => Self::#last,
        })
    });
    Ok((schema, read))
}

/// What serde's attributes say of one item.
#[derive(Default)]
struct Serde {
    rename: Option<String>,
    rename_all: Option<String>,
    /// What makes the value of what is not there.
    default: Option<proc_macro2::TokenStream>,
    skip: bool,
    deny_unknown_fields: bool,
}

impl Serde {
    fn read(attrs: &[Attribute]) -> Result<Self, Error> {
        let mut found = Serde::default();
        for attr in attrs.iter().filter(|a| a.path().is_ident("serde")) {
            attr.parse_nested_meta(|meta| {
                let text = |meta: &syn::meta::ParseNestedMeta| -> Result<String, Error> {
                    Ok(meta.value()?.parse::<LitStr>()?.value())
                };
                if meta.path.is_ident("rename") {
                    found.rename = Some(text(&meta)?);
                } else if meta.path.is_ident("rename_all") {
                    found.rename_all = Some(text(&meta)?);
                } else if meta.path.is_ident("default") {
                    found.default = Some(match meta.input.peek(Token![=]) {
                        true => {
                            let path: syn::Path = meta.value()?.parse::<LitStr>()?.parse()?;
                            quote! { #path() }
                        }
                        false => quote! { ::core::default::Default::default() },
                    });
                } else if meta.path.is_ident("skip") || meta.path.is_ident("skip_deserializing") {
                    found.skip = true;
                } else if meta.path.is_ident("deny_unknown_fields") {
                    found.deny_unknown_fields = true;
                } else {
                    return Err(meta.error("this attribute of serde is not supported in settings"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn rename(field: &str, rule: Option<&str>) -> String {
    match rule {
        Some("kebab-case") => field.replace('_', "-"),
        _ => field.to_owned(),
    }
}

/// `TooMany` as `too_many`.
fn separated(name: &str, separator: char) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push(separator);
        }
        out.extend(c.to_lowercase());
    }
    out
}
