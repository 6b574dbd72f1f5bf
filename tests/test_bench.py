"""The scripts beside the benches: the table in the README takes what was measured, losses too, and nothing else of the README."""
import pytest

from bench import memory, readme_table


def info(contender, seconds, **changes):
    return {
        "operation": "conv2d", "table": "vgg16", "layer": "conv5_1", "dtype": "float32", "contender": contender,
        "x_shape": [1, 512, 14, 14],
        "weight_shape": [512, 512, 3, 3], "y_shape": [1, 512, 14, 14], "seconds_of_whole_layer": seconds, "per_cent_of_peak": 81.4,
        "crop": contender.endswith("_crop"), **changes,
    }


def saved(*infos):
    facts = {"CPU": "A", "instruction set": "avx2", "threads": "1 of 2", "numpy": "2.4", "BLAS": "openblas 0.3", "fastconv": "0.1"}
    benchmarks = [{"group": f"{found['operation']} {found['layer']} {found['dtype']}", "extra_info": found} for found in infos]
    return {"machine_info": {"fastconv": facts}, "datetime": "2025-01-02T03:04:05", "benchmarks": benchmarks}


RIVALS = (info("naive_crop", 4.0), info("numpy", 0.010), info("direct", 0.9), info("auto", 0.020))


def test_a_loss_is_shown():
    lines = readme_table.table(saved(*RIVALS)).splitlines()
    assert lines[-1] == "| `conv2d` | vgg16 conv5_1, 1 × 512 × 14 × 14 → 512, 3×3 | 20.0 ms | ≈ 4.00 s | 10.0 ms | 0.500 × | 81 % |"
    assert "A, avx2, threads: 1 of 2" in lines[0]


def test_a_few_layers_can_be_chosen():
    assert len(readme_table.table(saved(*RIVALS), (("conv2d", "conv5_1"),)).splitlines()) == 5
    assert readme_table.table(saved(*RIVALS), (("conv2d", "conv1"),)).splitlines()[-1].startswith("|---")


def test_the_fastest_of_numpy_counts():
    assert "| 5.00 ms | 0.250 × |" in readme_table.table(saved(*RIVALS, info("course", 0.005)))


def test_what_is_not_complete_or_of_the_other_dtype_is_left_out():
    wide = [found | {"dtype": "float64"} for found in RIVALS]
    alone = [found | {"layer": "alone"} for found in RIVALS[2:]]
    assert readme_table.table(saved(*wide, *alone)).splitlines()[-1].startswith("|---")


def test_fill_replaces_what_is_between_the_markers():
    readme = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    assert readme_table.fill(readme, "new") == f"before\n{readme_table.BEGIN}\nnew\n{readme_table.END}\nafter\n"
    for wrong in ("", readme + readme, f"{readme_table.END}\n{readme_table.BEGIN}\n"):
        with pytest.raises(ValueError, match="wanted one line"):
            readme_table.fill(wrong, "new")


@pytest.mark.parametrize("backward", [False, True])
def test_unpooling_is_measured_at_odd_widths(backward):
    assert memory.unpool(backward, (1, 2, 7, 7), "float32", 0).ours().shape == ((1, 2, 3, 3) if backward else (1, 2, 7, 7))
