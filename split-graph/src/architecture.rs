//! Networks by name, with the parameter names of their usual sources.

use split_core::Shape;

use crate::graph::{GraphError, Node, Source};
use crate::op::{Activation, BatchNorm, Convolution, Linear, Op, Padding, Window};

/// A network known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// VGG-11 for small pictures (Simonyan and Zisserman 2015, configuration A): batch norm, one linear layer.
    Vgg11,
    /// VGG-16 for small pictures, configuration D.
    Vgg16,
    /// AlexNet's five convolutions with the small kernels that 32×32 pictures call for.
    AlexNet,
    /// torchvision's `vgg11_bn`.
    Vgg11Bn,
    /// torchvision's `vgg16_bn`.
    Vgg16Bn,
    /// torchvision's `resnet18` (He et al. 2016).
    ResNet18,
    /// torchvision's `resnet34`.
    ResNet34,
    /// torchvision's `resnet50`, whose bottlenecks have their stride in the 3×3 convolution.
    ResNet50,
    /// torchvision's `mobilenet_v2` (Sandler et al. 2018).
    MobileNetV2,
    /// timm's `tf_efficientnet_lite0`: EfficientNet-Lite0 with TensorFlow's padding.
    EfficientNetLite0,
}
use Architecture::{
    AlexNet, EfficientNetLite0, MobileNetV2, ResNet18, ResNet34, ResNet50, Vgg11, Vgg11Bn, Vgg16, Vgg16Bn,
};

/// Names and what they stand for.
const NAMES: [(&str, Architecture); 10] = [
    ("vgg16", Vgg16),
    ("vgg11", Vgg11),
    ("alexnet", AlexNet),
    ("vgg11_bn", Vgg11Bn),
    ("vgg16_bn", Vgg16Bn),
    ("resnet18", ResNet18),
    ("resnet34", ResNet34),
    ("resnet50", ResNet50),
    ("mobilenet_v2", MobileNetV2),
    ("tf_efficientnet_lite0", EfficientNetLite0),
];

/// Convolutions before each pool of a VGG, by their outputs.
const VGG11: &[&[usize]] = &[&[64], &[128], &[256, 256], &[512, 512], &[512, 512]];
const VGG16: &[&[usize]] = &[&[64, 64], &[128, 128], &[256; 3], &[512; 3], &[512; 3]];
const ALEXNET: &[&[usize]] = &[&[64], &[192], &[384, 256, 256]];

/// PyTorch's epsilon.
const EPSILON: f32 = 1e-5;
/// TensorFlow's epsilon for EfficientNet.
const LITE_EPSILON: f32 = 1e-3;

impl Architecture {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.into_iter().map(|it| it.1)
    }

    /// The architecture of this name, as its source calls it.
    pub fn of(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|it| it.0 == name).map(|it| it.1)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.into_iter().find(|it| it.1 == self).map_or("", |it| it.0)
    }

    /// Rows and columns of the pictures that it is usually trained on.
    pub fn usual_size(self) -> [usize; 2] {
        match self {
            Vgg11 | Vgg16 | AlexNet => [32; 2],
            _ => [224; 2],
        }
    }

    /// What is usually subtracted from each channel of a picture in `[0, 1]`, and what then divides it.
    pub fn usual_normalization(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Vgg11 | Vgg16 | AlexNet => ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
            EfficientNetLite0 => ([127.0 / 255.0; 3], [128.0 / 255.0; 3]),
            _ => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        }
    }

    /// The nodes of the network for pictures `input` and a number of classes, without weights: [`fill`](crate::fill) them.
    ///
    /// Fails where the input is too small for it.
    pub fn nodes(self, input: Shape, classes: usize) -> Result<Vec<Node>, GraphError> {
        let mut it = Builder::new(input);
        match self {
            Vgg11 => it.small_vgg(VGG11, classes),
            Vgg16 => it.small_vgg(VGG16, classes),
            AlexNet => it.small_vgg(ALEXNET, classes),
            Vgg11Bn => it.vgg(VGG11, classes),
            Vgg16Bn => it.vgg(VGG16, classes),
            ResNet18 => it.resnet(&[2, 2, 2, 2], false, classes),
            ResNet34 => it.resnet(&[3, 4, 6, 3], false, classes),
            ResNet50 => it.resnet(&[3, 4, 6, 3], true, classes),
            MobileNetV2 => it.mobilenet_v2(classes),
            EfficientNetLite0 => it.lite0(classes),
        }?;
        Ok(it.nodes)
    }
}

/// A network under construction.
struct Builder {
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
    input: Shape,
    last: Source,
    epsilon: f32,
    activation: Activation,
}

/// A convolution without bias.
#[derive(Clone, Copy)]
struct Filter {
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
    groups: usize,
}

type Built = Result<(), GraphError>;

impl Builder {
    fn new(input: Shape) -> Self {
        Self {
            nodes: Vec::new(),
            shapes: Vec::new(),
            input,
            last: Source::Input,
            epsilon: EPSILON,
            activation: Activation::Relu,
        }
    }

    fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Node(node) => self.shapes[node],
        }
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<Source>) -> Built {
        let shapes: Vec<Shape> = inputs.iter().map(|it| self.shape(*it)).collect();
        let shape = op.output(&shapes).map_err(|fault| GraphError {
            node: name.to_owned(),
            fault,
        })?;
        self.last = Source::Node(self.nodes.len());
        self.shapes.push(shape);
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs,
        });
        Ok(())
    }

    fn next(&mut self, name: &str, op: Op) -> Built {
        self.push(name, op, vec![self.last])
    }

    fn convolution(&mut self, name: &str, filter: Filter, biased: bool) -> Built {
        let op = Op::Convolution(Convolution {
            inputs: self.shape(self.last).channels(),
            outputs: filter.outputs,
            groups: filter.groups,
            window: Window {
                kernel: [filter.kernel; 2],
                stride: [filter.stride; 2],
                padding: filter.padding,
            },
            weight: Vec::new(),
            bias: biased.then(Vec::new),
        });
        self.next(name, op)
    }

    fn norm(&mut self, name: &str) -> Built {
        let op = Op::BatchNorm(BatchNorm {
            channels: self.shape(self.last).channels(),
            epsilon: self.epsilon,
            scale: Vec::new(),
            shift: Vec::new(),
            mean: Vec::new(),
            variance: Vec::new(),
        });
        self.next(name, op)
    }

    fn activate(&mut self, name: &str) -> Built {
        self.next(name, Op::Activation(self.activation))
    }

    fn linear(&mut self, name: &str, outputs: usize) -> Built {
        let op = Op::Linear(Linear {
            inputs: self.shape(self.last).values(),
            outputs,
            weight: Vec::new(),
            bias: Some(Vec::new()),
        });
        self.next(name, op)
    }

    /// A convolution whose kernel is centred, and its batch norm.
    fn block(&mut self, names: [&str; 2], outputs: usize, kernel: usize, stride: usize) -> Built {
        self.convolution(names[0], Filter::centred(outputs, kernel, stride), false)?;
        self.norm(names[1])
    }

    /// Convolutions without bias, each with batch norm and ReLU; pools, after which a network is split; one linear layer.
    fn small_vgg(&mut self, blocks: &[&[usize]], classes: usize) -> Built {
        let mut position = 0;
        for (number, widths) in blocks.iter().enumerate() {
            for outputs in *widths {
                let name = |offset| format!("features.{}", position + offset);
                self.block([&name(0), &name(1)], *outputs, 3, 1)?;
                self.activate(&name(2))?;
                position += 3;
            }
            self.next(&format!("pool{}", number + 1), Op::MaxPool(Window::square(2, 2, 0)))?;
            position += 1;
        }
        self.next("flatten", Op::Flatten)?;
        self.linear("classifier", classes)
    }

    /// torchvision's: convolutions with bias, three linear layers.
    fn vgg(&mut self, blocks: &[&[usize]], classes: usize) -> Built {
        let mut position = 0;
        for widths in blocks {
            for outputs in *widths {
                let name = |offset| format!("features.{}", position + offset);
                self.convolution(&name(0), Filter::centred(*outputs, 3, 1), true)?;
                self.norm(&name(1))?;
                self.activate(&name(2))?;
                position += 3;
            }
            self.next(&format!("features.{position}"), Op::MaxPool(Window::square(2, 2, 0)))?;
            position += 1;
        }
        self.adaptive_average(7)?;
        self.next("flatten", Op::Flatten)?;
        for (name, outputs) in [(0, 4096), (3, 4096), (6, classes)] {
            self.linear(&format!("classifier.{name}"), outputs)?;
            if name < 6 {
                self.activate(&format!("classifier.{}", name + 1))?;
            }
        }
        Ok(())
    }

    /// The mean of equal parts of a map, `side` in each direction. Nothing to do where the map is of that size.
    fn adaptive_average(&mut self, side: usize) -> Built {
        let shape = self.shape(self.last);
        let kernel = [shape.height() / side, shape.width() / side];
        if kernel == [1, 1] && [shape.height(), shape.width()] == [side; 2] {
            return Ok(());
        }
        // A map that does not divide into parts of one size is refused by the linear layer behind.
        let window = Window {
            kernel,
            stride: kernel,
            padding: Padding::default(),
        };
        self.next(
            "avgpool",
            Op::AveragePool {
                window,
                count_include_pad: false,
            },
        )
    }

    fn resnet(&mut self, stages: &[usize; 4], bottlenecks: bool, classes: usize) -> Built {
        self.block(["conv1", "bn1"], 64, 7, 2)?;
        self.activate("relu")?;
        self.next("maxpool", Op::MaxPool(Window::square(3, 2, 1)))?;
        for (stage, blocks) in stages.iter().enumerate() {
            for block in 0..*blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                self.residual(&format!("layer{}.{block}", stage + 1), 64 << stage, stride, bottlenecks)?;
            }
        }
        self.next("avgpool", Op::GlobalAveragePool)?;
        self.next("flatten", Op::Flatten)?;
        self.linear("fc", classes)
    }

    fn residual(&mut self, module: &str, width: usize, stride: usize, bottleneck: bool) -> Built {
        let name = |it: &str| format!("{module}.{it}");
        let input = self.last;
        let outputs = if bottleneck { 4 * width } else { width };
        // Kernel and stride of each convolution.
        let convolutions: &[(usize, usize)] = if bottleneck {
            &[(1, 1), (3, stride), (1, 1)]
        } else {
            &[(3, stride), (3, 1)]
        };
        for (at, (kernel, stride)) in convolutions.iter().enumerate() {
            let last = at + 1 == convolutions.len();
            let names = [name(&format!("conv{}", at + 1)), name(&format!("bn{}", at + 1))];
            self.block(
                [&names[0], &names[1]],
                if last { outputs } else { width },
                *kernel,
                *stride,
            )?;
            if !last {
                self.activate(&name(&format!("relu{}", at + 1)))?;
            }
        }
        let path = self.last;
        self.last = input;
        if stride > 1 || self.shape(input).channels() != outputs {
            self.block([&name("downsample.0"), &name("downsample.1")], outputs, 1, stride)?;
        }
        self.push(&name("add"), Op::Add, vec![path, self.last])?;
        self.activate(&name("relu"))
    }

    fn mobilenet_v2(&mut self, classes: usize) -> Built {
        self.activation = Activation::Relu6;
        self.conv_norm_relu6("features.0", Filter::centred(32, 3, 2))?;
        let mut number = 1;
        // Expansion, outputs, blocks, stride of the first.
        let stages = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ];
        for (expansion, outputs, blocks, stride) in stages {
            for block in 0..blocks {
                let stride = if block == 0 { stride } else { 1 };
                self.inverted_residual(&format!("features.{number}"), expansion, outputs, stride)?;
                number += 1;
            }
        }
        self.conv_norm_relu6(&format!("features.{number}"), Filter::centred(1280, 1, 1))?;
        self.next("avgpool", Op::GlobalAveragePool)?;
        self.next("flatten", Op::Flatten)?;
        self.linear("classifier.1", classes)
    }

    fn conv_norm_relu6(&mut self, module: &str, filter: Filter) -> Built {
        self.convolution(&format!("{module}.0"), filter, false)?;
        self.norm(&format!("{module}.1"))?;
        self.activate(&format!("{module}.2"))
    }

    fn inverted_residual(&mut self, module: &str, expansion: usize, outputs: usize, stride: usize) -> Built {
        let input = self.last;
        let inputs = self.shape(input).channels();
        let hidden = inputs * expansion;
        let mut part = 0;
        if expansion > 1 {
            self.conv_norm_relu6(&format!("{module}.conv.0"), Filter::centred(hidden, 1, 1))?;
            part = 1;
        }
        self.conv_norm_relu6(
            &format!("{module}.conv.{part}"),
            Filter::centred(hidden, 3, stride).depthwise(hidden),
        )?;
        let names = [part + 1, part + 2].map(|it| format!("{module}.conv.{it}"));
        self.block([&names[0], &names[1]], outputs, 1, 1)?;
        if stride == 1 && inputs == outputs {
            self.push(&format!("{module}.add"), Op::Add, vec![input, self.last])?;
        }
        Ok(())
    }

    fn lite0(&mut self, classes: usize) -> Built {
        (self.activation, self.epsilon) = (Activation::Relu6, LITE_EPSILON);
        self.same("conv_stem", 32, 3, 2, 1)?;
        self.norm("bn1")?;
        self.activate("act1")?;
        self.separable("blocks.0.0", 16)?;
        // Kernel, outputs, blocks, stride of the first.
        let stages = [
            (3, 24, 2, 2),
            (5, 40, 2, 2),
            (3, 80, 3, 2),
            (5, 112, 3, 1),
            (5, 192, 4, 2),
            (3, 320, 1, 1),
        ];
        for (stage, (kernel, outputs, blocks, stride)) in stages.into_iter().enumerate() {
            for block in 0..blocks {
                let stride = if block == 0 { stride } else { 1 };
                self.lite_block(&format!("blocks.{}.{block}", stage + 1), kernel, outputs, stride)?;
            }
        }
        self.same("conv_head", 1280, 1, 1, 1)?;
        self.norm("bn2")?;
        self.activate("act2")?;
        self.next("global_pool", Op::GlobalAveragePool)?;
        self.next("flatten", Op::Flatten)?;
        self.linear("classifier", classes)
    }

    /// A convolution with TensorFlow's padding.
    fn same(&mut self, name: &str, outputs: usize, kernel: usize, stride: usize, groups: usize) -> Built {
        let shape = self.shape(self.last);
        let padding = Padding::same([shape.height(), shape.width()], [kernel; 2], [stride; 2]);
        let filter = Filter {
            outputs,
            kernel,
            stride,
            padding,
            groups,
        };
        self.convolution(name, filter, false)
    }

    fn separable(&mut self, module: &str, outputs: usize) -> Built {
        let name = |it: &str| format!("{module}.{it}");
        let inputs = self.shape(self.last).channels();
        self.same(&name("conv_dw"), inputs, 3, 1, inputs)?;
        self.norm(&name("bn1"))?;
        self.activate(&name("act1"))?;
        self.same(&name("conv_pw"), outputs, 1, 1, 1)?;
        self.norm(&name("bn2"))
    }

    fn lite_block(&mut self, module: &str, kernel: usize, outputs: usize, stride: usize) -> Built {
        let name = |it: &str| format!("{module}.{it}");
        let input = self.last;
        let inputs = self.shape(input).channels();
        let hidden = 6 * inputs;
        self.same(&name("conv_pw"), hidden, 1, 1, 1)?;
        self.norm(&name("bn1"))?;
        self.activate(&name("act1"))?;
        self.same(&name("conv_dw"), hidden, kernel, stride, hidden)?;
        self.norm(&name("bn2"))?;
        self.activate(&name("act2"))?;
        self.same(&name("conv_pwl"), outputs, 1, 1, 1)?;
        self.norm(&name("bn3"))?;
        if stride == 1 && inputs == outputs {
            self.push(&name("add"), Op::Add, vec![self.last, input])?;
        }
        Ok(())
    }
}

impl Filter {
    /// Padding that keeps the size at stride 1.
    fn centred(outputs: usize, kernel: usize, stride: usize) -> Self {
        Self {
            outputs,
            kernel,
            stride,
            padding: Padding::all(kernel / 2),
            groups: 1,
        }
    }

    fn depthwise(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}
