//! GLM-4-0414: GLM with norms before and after each branch.
use super::{Family, always, glm};
use crate::blocks::Tree;

pub(super) const FAMILY: Family = Family {
    model_type: "glm4",
    title: "GLM-4",
    gguf: Some(("glm4", always)),
    defaults: glm::FAMILY.defaults,
    load: |c, p| {
        let post =
            [Some(("post_self_attn_layernorm", "post_attention_norm")), Some(("post_mlp_layernorm", "post_ffw_norm"))];
        let mut tree = Tree { post, ..Tree::pre_norm(c)? };
        tree.pre[1] = Some(("post_attention_layernorm", "ffn_norm"));
        glm::load_with(c, p, &tree)
    },
    ..Family::BASE
};
