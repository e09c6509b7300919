//! Whether a launch fits the contract in `kernels.json`: what debug builds of an engine with copied kernels check before they launch.
//!
//! A `Dims` that says more than a buffer holds, a grid that leaves out the last rows, a tile that the shader does not know: on a GPU they
//! give wrong numbers or a crash somewhere else. Here they give a line of text.

use serde_json::Value;

/// Checks one launch of a golden vector, or one of the same form, against the contract. `buffers` are the vector's.
///
/// # Errors
/// What does not fit.
pub fn check(manifest: &Value, launch: &Value, buffers: &Value) -> Result<(), String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let files = list(&manifest["files"]);
    let file = files.iter().find(|f| [&f["file"], &f["compiled"]["file"]].contains(&&launch["file"])).ok_or(format!("no file {}", launch["file"]))?;
    let entries = list(&file["entries"]);
    let entry = entries.iter().find(|e| e["name"] == launch["entry"]).ok_or(format!("no entry {}", launch["entry"]))?;
    let say = |what: String| format!("{} {}: {what}", launch["file"].as_str().unwrap_or_default(), launch["entry"].as_str().unwrap_or_default());

    // What names stand for: the fields of the Dims, and constants as they are or as this launch has them.
    let hex = launch["dims_hex"].as_str().unwrap_or_default();
    let word = |offset: usize| hex.get(2 * offset..2 * offset + 8).and_then(|word| u32::from_str_radix(word, 16).ok()).map(u32::swap_bytes);
    if file["dims"]["bytes"].as_u64() != Some(hex.len() as u64 / 2) {
        return Err(say(format!("Dims of {} bytes, found {}", file["dims"]["bytes"], hex.len() / 2)));
    }
    let (fields, constants) = (list(&file["dims"]["fields"]), list(&file["constants"]));
    let value = |name: &str| -> Option<u64> {
        let of = |list: &[Value]| list.iter().find(|v| v["name"] == name).cloned();
        match (of(&fields), of(&constants)) {
            (Some(field), _) => word(field["offset"].as_u64()? as usize).map(u64::from),
            (None, Some(constant)) => launch["constants"][name].as_u64().or(constant["default"].as_u64()),
            // Grids of persistent kernels: at most one block for each.
            (None, None) => (name == "multiprocessors").then_some(1 << 20),
        }
    };
    let evaluate = |text: &Value| {
        let mut rest = text.as_str().unwrap_or_default();
        sum(&mut rest, &value).filter(|_| rest.trim().is_empty()).ok_or_else(|| say(format!("cannot work out `{text}`")))
    };
    for (name, given) in launch["constants"].as_object().into_iter().flatten() {
        let constant = constants.iter().find(|c| c["name"] == name.as_str()).ok_or_else(|| say(format!("{name} is not to be overridden")))?;
        let (values, range) = (list(&constant["values"]), list(&constant["range"]));
        let inside = range.len() == 2 && (range[0].as_u64()..=range[1].as_u64()).contains(&given.as_u64());
        if !inside && !values.contains(given) {
            return Err(say(format!("{name} = {given}: expected one of {}{}", constant["values"], constant["range"])));
        }
        if constant["multiple_of"].is_string() && given.as_u64().unwrap_or(0) % evaluate(&constant["multiple_of"])?.max(1) != 0 {
            return Err(say(format!("{name} = {given}: expected a multiple of {}", constant["multiple_of"])));
        }
    }
    for constant in &constants {
        let name = constant["name"].as_str().unwrap_or_default();
        // An entry that does not use it does not care.
        let named = |key: &str| entry[key].as_str().is_some_and(|text| text.contains(name));
        let used = !launch["constants"][name].is_null() || named("grid") || named("shared");
        if let Some(field) = constant["equals"].as_str().filter(|field| used && value(name) != value(field)) {
            let [constant, given] = [name, field].map(|name| value(name).unwrap_or_default());
            return Err(say(format!("the constant {name} is {constant}, the field {field} of the Dims {given}: they must be equal")));
        }
    }

    let float = |name: &str| Some(name).filter(|name| fields.iter().any(|f| f["name"] == *name && f["type"] == "f32")).and_then(&value);
    for check in list(&file["checks"]).iter().chain(&list(&entry["checks"])) {
        let check = check.as_str().unwrap_or_default();
        // Of a float only its sign is asked.
        let sign = check.strip_suffix(" >= 0").and_then(float).map(|bits| f32::from_bits(bits as u32) >= 0.0);
        if !sign.or_else(|| holds(check, &value)).ok_or_else(|| say(format!("cannot work out `{check}`")))? {
            return Err(say(format!("the Dims break {check}")));
        }
    }

    let (grid, groups) = (evaluate(&entry["grid"])?, launch["groups"].as_u64().unwrap_or(0));
    let persistent = entry["grid"].as_str().is_some_and(|text| text.contains("multiprocessors"));
    if groups != grid && !(persistent && 0 < groups && groups <= grid) {
        return Err(say(format!("{groups} groups, expected {grid}: {}", entry["grid"])));
    }
    let block = evaluate(&entry["block"])?;
    if launch["block"].as_u64() != Some(block) {
        return Err(say(format!("{} threads in a group, expected {block}", launch["block"])));
    }
    let given: Vec<Value> = list(&launch["maps"]).iter().map(|map| map["buffer"].clone()).chain(list(&launch["buffers"])).collect();
    let wanted = list(&entry["buffers"]);
    if given.len() != wanted.len() {
        return Err(say(format!("{} buffers, expected {}", given.len(), wanted.len())));
    }
    for (wanted, given) in wanted.iter().zip(given) {
        let (name, condition) = (wanted["name"].as_str().unwrap_or_default(), wanted["only_if"].as_str());
        if let Some(condition) = condition {
            // Absent, and not looked at; or absent by a number in a buffer, which only the kernel knows.
            if !is_so(condition, &value).ok_or_else(|| say(format!("cannot work out `{condition}`")))? {
                continue;
            }
        }
        let Some(given) = given.as_u64().map(|number| &buffers[number as usize]) else {
            return Err(say(format!("`{name}` is not there{}", condition.map(|c| format!(", although {c}")).unwrap_or_default())));
        };
        // Another shape or dtype, where a constant or a field has one of the listed values.
        let alternatives = list(&wanted["alternatives"]);
        let holds = |a: &&Value| list(&a["values"]).iter().any(|v| v.as_u64() == a["name"].as_str().and_then(value));
        let pick = |key: &str| alternatives.iter().filter(holds).map(|a| a[key].clone()).find(|v| !v.is_null()).unwrap_or(wanted[key].clone());
        let size = match pick("dtype").as_str() {
            Some("u8") => 1,
            Some("bf16") => 2,
            _ => 4,
        };
        let elements = list(&pick("shape")).iter().try_fold(1, |product: u64, side| Ok::<_, String>(product.saturating_mul(evaluate(side)?)))?;
        let from = if wanted["from"].is_null() { 0 } else { evaluate(&wanted["from"])? };
        let needed = (from + elements).saturating_mul(size);
        if given["bytes"].as_u64() < Some(needed) {
            return Err(say(format!("`{name}` has {} bytes, {needed} are needed: {}", given["bytes"], pick("shape"))));
        }
        if file["elements_below"].as_u64().is_some_and(|limit| elements >= limit) {
            return Err(say(format!("`{name}` has {elements} elements, expected fewer than {}", file["elements_below"])));
        }
    }
    Ok(())
}

/// `has_row`, `flags & 4`, `max_norm > 0 or has_loss`. `None` for what cannot be read.
fn is_so(condition: &str, value: &dyn Fn(&str) -> Option<u64>) -> Option<bool> {
    let atom = |text: &str| {
        Some(match text.split(' ').collect::<Vec<_>>().as_slice() {
            ["0"] => false,
            [name] => value(name)? != 0,
            [name, "&", bits] => value(name)? & bits.parse::<u64>().ok()? != 0,
            [name, ">", "0"] => value(name).is_some_and(|bits| f32::from_bits(bits as u32) > 0.0),
            _ => return None,
        })
    };
    let all = |text: &str| text.split(" and ").map(atom).try_fold(true, |so_far, one| Some(so_far & one?));
    condition.split(" or ").map(all).try_fold(false, |so_far, one| Some(so_far | one?))
}

/// `a * b < 2147483648`, `a % 8 == 0`. `None` for what cannot be read.
fn holds(text: &str, value: &dyn Fn(&str) -> Option<u64>) -> Option<bool> {
    let (sign, (left, right)) = [" <= ", " >= ", " == ", " < ", " > "].into_iter().find_map(|sign| Some((sign, text.split_once(sign)?)))?;
    let of = |mut text: &str| sum(&mut text, value).filter(|_| text.trim().is_empty());
    let left = match left.split_once(" % ") {
        Some((left, of_what)) => of(left)?.checked_rem(of(of_what)?)?,
        None => of(left)?,
    };
    let right = of(right)?;
    Some(match sign {
        " <= " => left <= right,
        " >= " => left >= right,
        " == " => left == right,
        " < " => left < right,
        _ => left > right,
    })
}

/// `a + b * ceil_div(c, 4)`: whole numbers, division rounding down. `None` for a name that `value` does not know.
fn sum(rest: &mut &str, value: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut total = product(rest, value)?;
    loop {
        total = match () {
            () if take(rest, "+") => total.saturating_add(product(rest, value)?),
            () if take(rest, "-") => total.saturating_sub(product(rest, value)?),
            () => return Some(total),
        }
    }
}

fn product(rest: &mut &str, value: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut total = factor(rest, value)?;
    loop {
        total = match () {
            () if take(rest, "*") => total.saturating_mul(factor(rest, value)?),
            () if take(rest, "/") => total.checked_div(factor(rest, value)?)?,
            () => return Some(total),
        }
    }
}

fn factor(rest: &mut &str, value: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    if take(rest, "(") {
        let inside = sum(rest, value)?;
        return take(rest, ")").then_some(inside);
    }
    let text = rest.trim_start();
    let (name, behind) = text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()));
    *rest = behind;
    if !["ceil_div", "min", "max"].contains(&name) {
        return name.parse().ok().or_else(|| value(name));
    }
    let first = take(rest, "(").then(|| sum(rest, value))??;
    let second = take(rest, ",").then(|| sum(rest, value))??;
    take(rest, ")").then_some(match name {
        "min" => first.min(second),
        "max" => first.max(second),
        _ => first.div_ceil(second.max(1)),
    })
}

fn take(rest: &mut &str, sign: &str) -> bool {
    let found = rest.trim_start().strip_prefix(sign);
    *rest = found.unwrap_or(rest);
    found.is_some()
}
