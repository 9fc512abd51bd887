//! Scalar functions of ONNX.

use crate::onnx::Attrs;

pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Round half to even.
pub(crate) fn round(x: f64) -> f64 {
    x.round_ties_even()
}

/// ONNX's Sign: zero stays zero.
pub(super) fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// A scalar function with its attributes.
pub(crate) type Function = Box<dyn Fn(f64) -> f64>;

/// The function of a unary operator, with its attributes; `None` where the operator is not a unary function of real numbers.
pub(crate) fn unary(op: &str, a: &Attrs) -> Result<Option<Function>, String> {
    let f: Function = match op {
        "Abs" => Box::new(f64::abs),
        "Acos" => Box::new(f64::acos),
        "Acosh" => Box::new(f64::acosh),
        "Asin" => Box::new(f64::asin),
        "Asinh" => Box::new(f64::asinh),
        "Atan" => Box::new(f64::atan),
        "Atanh" => Box::new(f64::atanh),
        "Ceil" => Box::new(f64::ceil),
        "Cos" => Box::new(f64::cos),
        "Cosh" => Box::new(f64::cosh),
        "Erf" => Box::new(libm::erf),
        "Exp" => Box::new(f64::exp),
        "Floor" => Box::new(f64::floor),
        "Log" => Box::new(f64::ln),
        "Mish" => Box::new(|x| x * softplus(x).tanh()),
        "Neg" => Box::new(|x| -x),
        "Reciprocal" => Box::new(f64::recip),
        "Relu" => Box::new(|x| x.max(0.0)),
        "Round" => Box::new(round),
        "Sigmoid" => Box::new(sigmoid),
        "Sign" => Box::new(sign),
        "Sin" => Box::new(f64::sin),
        "Sinh" => Box::new(f64::sinh),
        "Softplus" => Box::new(softplus),
        "Softsign" => Box::new(|x| x / (1.0 + x.abs())),
        "Sqrt" => Box::new(f64::sqrt),
        "Tan" => Box::new(f64::tan),
        "Tanh" => Box::new(f64::tanh),
        "HardSwish" => Box::new(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            let alpha = a.float_or("alpha", 0.01)?;
            Box::new(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "ThresholdedRelu" => {
            let alpha = a.float_or("alpha", 1.0)?;
            Box::new(move |x| if x > alpha { x } else { 0.0 })
        }
        "Elu" => {
            let alpha = a.float_or("alpha", 1.0)?;
            Box::new(move |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
        }
        "Celu" => {
            let alpha = a.float_or("alpha", 1.0)?;
            Box::new(move |x| x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0))
        }
        "Selu" => {
            let alpha = a.float_or("alpha", f64::from(1.673_263_2f32))?;
            let gamma = a.float_or("gamma", f64::from(1.050_701f32))?;
            Box::new(move |x| gamma * if x <= 0.0 { alpha * x.exp_m1() } else { x })
        }
        "HardSigmoid" => {
            let alpha = a.float_or("alpha", 0.2)?;
            let beta = a.float_or("beta", 0.5)?;
            Box::new(move |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "Gelu" => match a.str("approximate")?.unwrap_or("none") {
            "none" => Box::new(|x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))),
            "tanh" => Box::new(|x| {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + u.tanh())
            }),
            other => return Err(format!("approximate = {other}")),
        },
        _ => return Ok(None),
    };
    Ok(Some(f))
}
