"""The page of a run, opened in a real headless Chromium.

Without Chromium and its driver the browser tests fail, unless JAXPREF_NO_BROWSER=1 leaves them out.
"""

import html.parser
import json
import os
import re
import shutil

import numpy as np
import pytest
from absl import flags

from jaxpref import curves, page, writer
from jaxpref.types import Refused

HOSTILE = "</script><script>document.title = 'hacked'</script><img src=x onerror=alert(1)>"
PROMPTS = (
  "What should I pack for a weekend in the mountains?",
  "Explain why the sky is blue to a six-year-old.",
  "Write a polite refusal to an invitation.",
)


def _config(steps):
  return {
    "title": "dpo on hh-rlhf, tiny",
    "steps": steps,
    "batch": 32,
    "seed": 0,
    "objectives": {"main": {"fn": "dpo", "beta": 0.1, "gamma": 1.0, "term_weight": 1.0}},
    "optim": {"lr": 1e-4, "clip": 1.0, "warmup": 0.1, "b2": None},
    "mesh": {"data": 1, "fsdp": 1},
  }


def _decay(step, steps, start, end, noise, rng):
  return end + (start - end) * np.exp(-3.0 * step / steps) + rng.normal(0, noise)


def _train(out, steps, rng):
  """Curves as a run of DPO has them, with noise from a seeded generator."""
  for step in range(10, steps + 1, 10):
    gone = 1.0 - np.exp(-3.0 * step / steps)
    chosen, rejected = 0.2 * gone + rng.normal(0, 0.08), -1.1 * gone + rng.normal(0, 0.08)
    metrics = {
      "loss": _decay(step, steps, 0.693, 0.38, 0.03, rng),
      "rewards/chosen": chosen,
      "rewards/rejected": rejected,
      "rewards/margins": chosen - rejected,
      "rewards/accuracies": min(1.0, 0.5 + 0.32 * gone + rng.normal(0, 0.04)),
      "logps/chosen": -142.0 + 10 * chosen,
      "logps/rejected": -151.0 + 10 * rejected,
      "grad_norm": np.exp(rng.normal(0.4, 0.3)),
      "lr": 1e-4 * min(1.0, step / 100) * (1 - step / (steps + 1)),
    }
    out.write(step, metrics)
    speed = {"seconds": 0.21 * step, "tokens_per_second": rng.normal(48_000, 900), "compiles": 3}
    out.speed(step, speed | {"memory_gib": 1.93, "steps_per_second": 4.7})
    if step % (steps // 10) == 0:
      numbers = {"rewards/accuracies": 0.5 + 0.26 * gone, "rewards/margins": 0.9 * gone}
      out.write(step, numbers | {"loss": 0.693 - 0.2 * gone}, "heldout")


def _say(out, step, text):
  for prompt in PROMPTS:
    for i in range(2):
      out.sample(step, prompt, f"{text} Answer {i + 1}.\n" * 3, -12.5 - i, 40 + i)


def make_run(folder, steps=600, finished=True, title="dpo on hh-rlhf, tiny"):
  """A folder as the loop leaves it: a warm start, and a preference run with samples."""
  rng = np.random.default_rng(7)
  folder.mkdir(parents=True, exist_ok=True)
  about = {
    "title": title,
    "command": "jaxpref train --config=configs/offline.py:objective=dpo --config.optim.lr=1e-4 "
    f"--workdir=runs/{folder.name}",
    "config": _config(steps),
    "recipe": _config(steps) | {"optim": {"lr": 3e-4, "clip": 1.0, "warmup": 0.1, "b2": 0.95}},
    "devices": "1 x NVIDIA H200, 1 process(es)",
    "mesh": {"data": 1, "fsdp": 2, "tensor": 1, "sequence": 1},
    "parameters": 1_234_567,
    "versions": {"jaxpref": "0.1.0", "python": "3.11.2", "jax": "0.10.2"},
  }
  writer.write_json(folder / "run.json", about)
  warm = folder / "warm"
  warm.mkdir(exist_ok=True)
  writer.write_json(warm / "run.json", about | {"title": "supervised warm start"})
  with open(os.devnull, "w") as quiet:
    out = writer.open_writer(warm, start_step=0, total_steps=200, stream=quiet)
    for step in range(10, 201, 10):
      out.write(step, {"loss": _decay(step, 200, 5.1, 2.2, 0.05, rng), "grad_norm": 1.0})
      out.speed(step, {"seconds": 0.1 * step, "tokens_per_second": 51_000.0})
    _say(out, 200, "It depends on many things, and I would say that it depends.")
    out.close()
    writer.write_json(warm / "done.json", {"step": 200, "metrics": {}})
    out = writer.open_writer(folder, start_step=0, total_steps=steps, stream=quiet)
    _say(out, 0, "It depends on many things, and I would say that it depends.")
    _train(out, steps, rng)
    _say(out, steps, "Take a warm layer, rain gear, water, and tell someone where you go.")
    out.sample(steps, HOSTILE, HOSTILE, -3.0, 9)
    out.wrong(
      {
        "prompt": f"Question {i}: {HOSTILE if i == 1 else PROMPTS[i % 3]}",
        "chosen": "I am not sure, but you could ask a doctor about it.",
        "rejected": "Sure! " * 30,
        "rewards/margins": -0.3 * i,
        "logps/margins": -3.0 * i,
        "source": f"heldout.jsonl:{i + 1}",
      }
      for i in range(12)
    )
    out.close()
  if finished:
    writer.write_json(folder / "done.json", {"step": steps, "metrics": {"loss": 0.4125}})
  return folder


class _Outline(html.parser.HTMLParser):
  """Tags and attributes of a page as an independent parser sees them."""

  def __init__(self, text):
    super().__init__()
    self.tags = []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  """Headless Chromium, or a failure that says what to install."""
  if os.environ.get("JAXPREF_NO_BROWSER") == "1":
    pytest.skip("JAXPREF_NO_BROWSER=1")
  chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
  if not (chromium and driver):
    pytest.fail(
      "the page is tested in Chromium: apt-get install chromium chromium-driver; or set "
      "JAXPREF_NO_BROWSER=1 to leave these tests out."
    )
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  for flag in (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
  ).split():
    options.add_argument(f"--{flag}")
  options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
  options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
  service = webdriver.ChromeService(executable_path=driver)
  found = webdriver.Chrome(options=options, service=service)
  yield found
  found.quit()


def _open(browser, path, width):
  size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
  browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
  browser.get(path.as_uri())


def _all(browser, selector):
  return browser.find_elements("css selector", selector)


def _lines(browser):
  return [p.get_attribute("d") for p in _all(browser, "svg path.line")]


def _complaints(browser):
  return [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_the_browser_draws_every_curve_and_row_without_a_complaint(run, browser):
  _open(browser, page.write(run), 1280)
  drawn = _lines(browser)
  data = json.loads(browser.execute_script("return document.getElementById('data').textContent"))
  assert len(drawn) == sum(len(chart["series"]) for chart in data) > 15
  assert all(re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+", d) for d in drawn)
  titles = [e.text for e in _all(browser, "figcaption strong")]
  assert {"Loss", "Log-probabilities", "Pairs ranked right", "Speed"} <= set(titles)
  rows = [e.text for e in _all(browser, "table.metrics tr")]
  assert any(row.startswith("Reward margin") and "rewards/margins" in row for row in rows)
  headings = [e.text for e in _all(browser, "h2")]
  assert headings == [
    "Final metrics",
    "Curves",
    "Samples",
    "Still wrong",
    "Before: warm",
    "Config",
  ]
  assert _complaints(browser) == []


def test_the_numbers_of_the_table_are_those_of_the_files(run, browser):
  _open(browser, page.write(run), 1280)
  last = {}
  for line in (run / "metrics.jsonl").read_text().splitlines():
    last |= json.loads(line)
  (row,) = [r for r in _all(browser, "table.metrics tr") if "rewards/margins" in r.text]
  shown = [number.text for number in row.find_elements("css selector", "td b")]
  expected = [last["rewards/margins"], last["heldout/rewards/margins"]]
  np.testing.assert_allclose([float(s.replace("\u2212", "-")) for s in shown], expected, rtol=5e-4)
  (row,) = [r for r in _all(browser, "table.metrics tr") if r.text.startswith("Loss loss")]
  assert row.find_element("css selector", "td b").text == "0.4125"  # from done.json


def test_a_curve_ends_where_its_last_value_is_on_the_axis(run, browser):
  """Reads the value back from pixels, through the labels of the axis."""
  _open(browser, page.write(run), 1280)
  _all(browser, "button[data-smooth=off]")[0].click()
  figure = _all(browser, "figure[data-chart]")[0]
  labels = [
    (float(t.get_attribute("y")) - 4, float(t.text.replace("\u2212", "-")))
    for t in figure.find_elements("css selector", "text[text-anchor=end]")
    if t.text != "step"
  ]
  (y0, v0), (y1, v1) = labels[0], labels[-1]
  path = figure.find_element("css selector", "path.line").get_attribute("d")
  end = float(path.split("L")[-1].split()[1])
  value = v0 + (end - y0) * (v1 - v0) / (y1 - y0)
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  last = [row["loss"] for row in rows if "loss" in row][-1]
  assert abs(value - last) <= 0.1 * abs((v1 - v0) / (y1 - y0))  # paths hold tenths of a pixel


def test_the_smoothing_buttons_and_slider_change_the_curves(run, browser):
  _open(browser, page.write(run), 1280)
  smooth, raw = _all(browser, "button[data-smooth]")
  first = _lines(browser)
  raw.click()
  second = _lines(browser)
  assert second[0] != first[0]
  assert (smooth.get_attribute("aria-pressed"), raw.get_attribute("aria-pressed")) == (
    "false",
    "true",
  )
  assert not _all(browser, "path.faint") and not _all(browser, "#strength")[0].is_enabled()
  smooth.click()
  assert _lines(browser) == first and _all(browser, "path.faint")
  browser.execute_script(
    "const s = document.getElementById('strength'); s.value = 0.5;"
    "s.dispatchEvent(new Event('input'))"
  )
  assert _lines(browser)[0] not in (first[0], second[0])
  assert _complaints(browser) == []


def test_the_config_toggle_shows_only_what_differs_or_all(run, browser):
  _open(browser, page.write(run), 1280)

  def shown():
    return [r.text for r in _all(browser, "table.config tbody tr") if r.is_displayed()]

  assert shown() == ["optim.b2 null 0.95", "optim.lr 0.0001 0.0003"]
  few, everything = _all(browser, "button[data-config]")
  assert few.text == "2 differences"
  everything.click()
  assert len(shown()) == 14 and everything.get_attribute("aria-pressed") == "true"
  few.click()
  assert len(shown()) == 2


def test_pointing_and_arrow_keys_read_single_steps(run, browser):
  from selenium.webdriver import ActionChains, Keys

  _open(browser, page.write(run), 1280)
  figure = _all(browser, "figure[data-chart]")[0]
  readout, svg = (figure.find_element("css selector", s) for s in (".readout", "svg"))
  assert readout.text.startswith("last")
  ActionChains(browser).move_to_element(svg).perform()
  assert re.match(r"step \d+", readout.text) and figure.find_elements("css selector", ".guide")
  browser.execute_script("arguments[0].focus()", svg)
  ActionChains(browser).send_keys(Keys.END, Keys.ARROW_LEFT).perform()
  assert readout.text.startswith("step 590")
  ActionChains(browser).send_keys(Keys.ESCAPE).perform()
  assert readout.text.startswith("last")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_overflows_the_window(run, browser, width):
  _open(browser, page.write(run), width)
  wide = browser.execute_script(
    "return [document.scrollingElement.scrollWidth, innerWidth, document.querySelectorAll"
    "('svg').length]"
  )
  assert wide[0] <= wide[1] == width and wide[2] > 5
  sides = [e.rect["x"] for e in _all(browser, "article:first-of-type .side")[:2]]
  assert (sides[0] == sides[1]) == (width == 360)  # stacked on a phone, else side by side
  assert _complaints(browser) == []


def test_hostile_text_stays_text(run, browser):
  _open(browser, page.write(run, title=HOSTILE), 1280)
  assert browser.title == HOSTILE
  assert [e for e in _all(browser, "img")] == [] and len(_all(browser, "script")) == 2
  assert HOSTILE in _all(browser, "main")[0].text
  assert _complaints(browser) == []


def test_a_script_tag_in_json_data_cannot_end_or_swallow_its_element(tmp_path, browser):
  run = make_run(tmp_path / "run", steps=100)
  swallows = "<!--<script>"  # where unescaped, the element would not end at its </script>
  with (run / "metrics.jsonl").open("a") as file:
    file.write(json.dumps({"step": 100, HOSTILE: 1.0, swallows: 1.0}) + "\n")
  _open(browser, page.write(run), 1280)
  assert browser.title == "dpo on hh-rlhf, tiny" and len(_all(browser, "script")) == 2
  data = json.loads(browser.execute_script("return document.getElementById('data').textContent"))
  assert swallows in [chart["title"] for chart in data]
  assert len(_lines(browser)) == sum(len(chart["series"]) for chart in data)
  assert _complaints(browser) == []


def test_the_page_asks_for_nothing_from_outside(run, browser):
  text = page.write(run).read_text()
  tags = _Outline(text).tags
  links = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "action")]
  assert links == ["data:,"]
  assert not re.search(r"url\(|@import|fetch\(|XMLHttp", text)
  (policy,) = [attrs["content"] for _, attrs in tags if "http-equiv" in attrs]
  assert policy.startswith("default-src 'none'") and "unsafe" not in policy
  _open(browser, run / "page.html", 1280)
  assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_every_heading_and_control_has_a_name(run):
  tags = _Outline(page.write(run).read_text()).tags
  levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
  ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
  assert {attrs["aria-labelledby"] for tag, attrs in tags if tag == "section"} <= ids
  assert all("aria-pressed" in attrs for tag, attrs in tags if tag == "button")


def test_samples_before_come_from_the_warm_start_where_step_0_has_none(tmp_path):
  run = make_run(tmp_path / "run", steps=100)
  path = run / "samples.jsonl"
  kept = [line for line in path.read_text().splitlines() if '"step": 0' not in line]
  path.write_text("\n".join(kept) + "\n")
  assert "Before, end of warm" in page.write(run).read_text()


def test_a_run_with_nothing_but_run_json_says_so(tmp_path):
  writer.write_json(tmp_path / "run.json", {"title": "new"})
  text = page.write(tmp_path).read_text()
  assert "Nothing written yet" in text and "No numbers yet" in text
  assert "<figure" not in text and "Still wrong" not in text


def test_the_status_tells_finished_running_and_stopped_apart(tmp_path):
  run = make_run(tmp_path / "run", steps=100, finished=False)
  assert "Running, step 100 of 100" in page.write(run).read_text()
  os.utime(run / "metrics.jsonl", (0, 0))
  assert "Stopped at step 100 of 100" in page.write(run).read_text()
  writer.write_json(run / "done.json", {"step": 100, "metrics": {}})
  assert "Finished at step 100 of 100" in page.write(run).read_text()


def test_the_time_of_a_resumed_run_is_the_sum_of_its_parts(tmp_path):
  writer.write_json(tmp_path / "run.json", {})
  rows = [{"step": s, "seconds": t} for s, t in ((1, 60.0), (2, 100.0), (3, 20.0), (4, 32.0))]
  (tmp_path / "speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert "<dd>2 min 12 s</dd>" in page.write(tmp_path).read_text()


def test_a_gap_in_a_series_is_a_gap_in_the_curve(tmp_path, browser):
  writer.write_json(tmp_path / "run.json", {})
  values = [1.0, 0.5, None, 0.4, 0.3]
  rows = [{"step": i + 1, "loss": value} for i, value in enumerate(values)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  _open(browser, page.write(tmp_path), 1280)
  assert [d.count("M") for d in _lines(browser)] == [2]


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(Refused, match=r"holds no run: it has no run\.json"):
    page.write(tmp_path)
  with pytest.raises(Refused, match="there is no run below"):
    page.write_index(tmp_path)


def test_a_corrupt_line_is_refused_with_file_and_line(tmp_path):
  run = make_run(tmp_path / "run", steps=100)
  (run / "wrong.jsonl").write_text("{}\nno\n")
  with pytest.raises(Refused, match=r"wrong\.jsonl:2 is not one JSON object"):
    page.write(run)


def test_the_index_has_one_row_per_run_that_links_to_its_page(tmp_path, browser):
  for name in ("first", "second"):
    make_run(tmp_path / "sweep" / name, steps=100, title=f"run {name}")
  _open(browser, page.write_index(tmp_path), 360)
  links = _all(browser, "tbody a")
  assert [a.text for a in links] == ["run first", "run second"]
  wide = browser.execute_script("return [document.scrollingElement.scrollWidth, innerWidth]")
  assert wide[0] <= wide[1]
  links[1].click()
  assert browser.find_element("css selector", "h1").text == "run second"
  assert _complaints(browser) == []


def test_a_table_page_holds_ready_sections_in_order(tmp_path, browser):
  path = tmp_path / "tables.html"
  sections = [("Noise & rank", "<table><tr><td>0.71</td></tr></table>"), ("Empty", "")]
  path.write_text(page.table_page("All <tables>", sections))
  _open(browser, path, 1280)
  assert browser.find_element("css selector", "h1").text == "All <tables>"
  assert [e.text for e in _all(browser, "h2")] == ["Noise & rank"]
  assert _complaints(browser) == []


def test_long_series_are_averaged_and_keep_their_mean():
  rng = np.random.default_rng(0)
  points = [(step, float(rng.normal())) for step in range(30_000)]
  thin = curves.thin(points)
  assert len(thin) == curves.MOST_POINTS
  np.testing.assert_allclose(np.mean([v for _, v in thin]), np.mean([v for _, v in points]))
  assert [s for s, _ in thin] == sorted(s for s, _ in thin)


def test_every_metric_is_drawn_in_exactly_one_chart():
  names = ["loss", "rewards/chosen", "kl/ref", "mine/own", "odd", "a/loss", "a/mine/own"]
  made = curves.charts({name: [(1, float(i))] for i, name in enumerate(names)})
  values = sorted(line["points"][0][1] for chart in made for line in chart["series"])
  assert values == [float(i) for i in range(len(names))]


@pytest.fixture
def command(monkeypatch):
  """Calls `main` with flags of its own, as `jaxpref page` does."""
  mine = flags.FlagValues()
  monkeypatch.setattr(page.flags, "FLAGS", mine)
  define = flags.DEFINE_string
  monkeypatch.setattr(page.flags, "DEFINE_string", lambda *a: define(*a, flag_values=mine))
  page.define_flags()
  return lambda *words: page.main(mine(["page", *words]))


def test_the_command_prints_the_path_that_it_wrote(tmp_path, command, capsys):
  run = make_run(tmp_path / "run", steps=100)
  command(f"--workdir={run}", "--title=Mine")
  assert capsys.readouterr().out == f"{run / 'page.html'}\n"
  assert "<h1>Mine</h1>" in (run / "page.html").read_text()


@pytest.mark.parametrize("words", [(), ("--workdir=a", "--all=b"), ("--all=b", "--title=c")])
def test_the_command_wants_one_run_or_one_folder(command, words):
  with pytest.raises(Refused, match="either --workdir=RUN"):
    command(*words)
