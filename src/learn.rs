//! The guide: `LEARN.md` in thirteen chapters, and an exercise to each.
//!
//! An exercise is one of the crate's shaders with a piece cut out. It is made from the shader as it is now, so that it cannot become
//! outdated; a test checks that [`crate::check`] refuses every one of them and accepts it once the piece is back.
#![doc = include_str!("../LEARN.md")]

use crate::device::shader::Shader;

/// The guide's text.
pub const TEXT: &str = include_str!("../LEARN.md");

/// What the line above a piece that was cut out begins with.
pub const MARK: &str = "// ── exercise ──";

/// A chapter: where its kernel is, and what its exercise takes out of it.
#[derive(Debug)]
pub struct Chapter {
    /// The shader's stem.
    pub stem: &'static str,
    /// What is cut out of `shaders/<stem>.wgsl`: it occurs there once.
    pub cut: &'static str,
    /// What replaces it: valid WGSL, but wrong.
    pub put: &'static str,
    /// What to think of.
    pub task: &'static str,
}

/// The chapters in the order of the guide.
pub static CHAPTERS: [Chapter; 13] = [
    Chapter {
        stem: "patch_embed",
        cut: "position[(p % dims.across) * 2u * dims.depth + n] + position[((p / dims.across) * 2u + 1u) * dims.depth + n]",
        put: "0.0",
        task: "A patch does not know where in the picture it was. Add the vectors of its column and of its row.",
    },
    Chapter {
        stem: "log_mel",
        cut: "power[index] = real * real + imaginary * imaginary;",
        put: "power[index] = real + imaginary;",
        task: "How strong is a frequency, whatever its phase? `power_naive` adds the two projections; it should not.",
    },
    Chapter {
        stem: "conv1d",
        cut: "return 0.5 * (1.0 + erf(z * SQRT_HALF)) + z * RSQRT_TAU * exp(max(-0.5 * z * z, -80.0));",
        put: "return 0.5 * (1.0 + erf(z * SQRT_HALF));",
        task: "gelu(z) = z · Φ(z) is a product: its slope has two terms, and one is missing. Φ' is the normal density, 1/√(2π) · exp(−z²/2).",
    },
    Chapter {
        stem: "embedding",
        cut: "total += b_dy[from_row * b_dims.columns + column];",
        put: "total = b_dy[from_row * b_dims.columns + column];",
        task: "A word that stands in a batch five times: who tells its row of the table?",
    },
    Chapter {
        stem: "rms_norm",
        cut: "var value = r * (b_dy[base + c] * b_weight[c] - b_x[base + c] * slope);",
        put: "var value = r * b_dy[base + c] * b_weight[c];",
        task: "This gradient treats r as a constant. But every element of the row moves r: put the term back that says so.",
    },
    Chapter {
        stem: "matmul",
        cut: "let b_at = select(k * dims.n + column, column * dims.k + k, LAYOUT == 0u);",
        put: "let b_at = k * dims.n + column;",
        task: "The naive kernel reads B as [K, N]. In the layout NT (LAYOUT 0) B lies as [N, K]: where is its element then?",
    },
    Chapter {
        stem: "rope",
        cut: "    y[high] = b * cosine + a * sine;",
        put: "    y[high] = b;",
        task: "A turned vector is as long as before. Only one of its two numbers has been turned here.",
    },
    Chapter {
        stem: "attention",
        cut: "total = fma(total, rescale, sum);",
        put: "total = total + sum;",
        task: "When a new tile has a larger maximum, the output so far is rescaled. What else was measured with the old one?",
    },
    Chapter {
        stem: "attention_backward",
        cut: "p * (dp[j * OWN_EACH + r] - row_delta[at]) * dims.scale;",
        put: "p * dp[j * OWN_EACH + r] * dims.scale;",
        task: "A softmax cannot raise all of its outputs at once: what has to be taken off dp before it is multiplied with p?",
    },
    Chapter {
        stem: "swiglu",
        cut: "let dgate = dy * b_up[i] * s * (1.0 + g * (1.0 - s));",
        put: "let dgate = dy * b_up[i] * s;",
        task: "silu(g) = g · σ(g): the gate's own slope is missing. σ' = σ (1 − σ).",
    },
    Chapter {
        stem: "cross_entropy",
        cut: "gradient = weight * (exp(b_logits[base + c] - log_sum_exp) - select(0.0, 1.0, c == answer));",
        put: "gradient = weight * exp(b_logits[base + c] - log_sum_exp);",
        task: "What was said, minus what was true: this gradient only knows what was said.",
    },
    Chapter {
        stem: "adamw",
        cut: "let value = p[i] * decay - c.step_size * moment / (sqrt(second) / c.correction2 + c.eps);",
        put: "let value = p[i] * decay - c.step_size * moment / (sqrt(second) + c.eps);",
        task: "Both means begin at zero and are too small at first. `step_size` already mends the one; mend the other.",
    },
    Chapter {
        stem: "local_histogram",
        cut: "root(n_means[index] / sqrt(energy * (4.0 / 9.0) + 1e-4));",
        put: "root(n_means[index]);",
        task: "A pen that presses harder is not another thing. Divide each direction by how strong the edges around it are, as the head of the file says.",
    },
];

impl Chapter {
    /// The shader as it is.
    pub fn shader(&self) -> &'static str {
        Shader::find(self.stem).unwrap_or_else(|| panic!("no shader {}.wgsl", self.stem)).source
    }

    /// The shader with the piece cut out, and the task above the line.
    pub fn exercise(&self) -> String {
        let shader = self.shader();
        let at = shader.find(self.cut).unwrap_or_else(|| panic!("{}.wgsl has no {:?}", self.stem, self.cut));
        let line = shader[..at].rfind('\n').map_or(0, |end| end + 1);
        let indent = " ".repeat(shader[line..].len() - shader[line..].trim_start().len());
        let task = format!("{indent}{MARK}  {}\n", self.task);
        format!("{}{task}{}{}{}", &shader[..line], &shader[line..at], self.put, &shader[at + self.cut.len()..])
    }
}

/// The number of a chapter: `5`, or its shader, `rms_norm`.
pub fn find(what: &str) -> Option<usize> {
    let number = what.parse::<usize>().ok().filter(|n| (1..=CHAPTERS.len()).contains(n)).map(|n| n - 1);
    number.or_else(|| CHAPTERS.iter().position(|chapter| chapter.stem == what))
}

/// The heading of a chapter, counted from 0, without its number.
pub fn title(index: usize) -> &'static str {
    text(index).lines().next().and_then(|line| line.split_once(". ")).map_or("", |(_, title)| title)
}

/// The chapter's part of [`TEXT`], from its heading on.
pub fn text(index: usize) -> &'static str {
    let begin = TEXT.find(&format!("\n## {}. ", index + 1)).map_or(TEXT.len(), |at| at + 1);
    let end = TEXT[begin..].find("\n## ").map_or(TEXT.len(), |at| begin + at + 1);
    &TEXT[begin..end]
}
