"""What Numba runs to compile a kernel: its own passes, without those that find nothing to do in kernels.

A kernel has no closures, no `with`, no lists of several types, nothing that Numba would unroll, and so on; each pass costs
time even so, and the bookkeeping after it as much again. LLVM's passes over single functions are left out too: what they do is done again once
the functions that a kernel calls are linked to it.
"""
from __future__ import annotations

from typing import Any

from numba.core import compiler, typed_passes, untyped_passes
from numba.core.compiler_machinery import PassManager, register_pass

WITHOUT = (untyped_passes.WithLifting, untyped_passes.InlineClosureLikes, untyped_passes.RewriteDynamicRaises, untyped_passes.MakeFunctionToJitFunction,
           untyped_passes.FindLiterallyCalls, untyped_passes.LiteralUnroll, untyped_passes.LiteralPropagationSubPipelinePass,
           typed_passes.InlineOverloads, typed_passes.DumpParforDiagnostics)


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(typed_passes.NativeLowering):
    """Numba's, into a library of code that optimises the kernel only once everything that it calls is linked."""

    _name = "fastconv_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
            state.library._optimize_functions = _nothing     # a Numba that has no such step goes on as ever
        return bool(super().run_pass(state))


def _nothing(module: Any) -> None:
    pass


class Compiler(compiler.CompilerBase):
    """Of serial kernels."""

    def define_pipelines(self) -> list[PassManager]:
        passes, inlined = PassManager("fastconv"), False
        for made, description in compiler.DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if made in WITHOUT or (made is untyped_passes.DeadBranchPrune and not inlined):
                continue                     # dead branches are found once the functions around them are known
            inlined |= made is untyped_passes.InlineInlinables
            passes.add_pass(Lowering if made is typed_passes.NativeLowering else made, description)
        passes.finalize()
        return [passes]
