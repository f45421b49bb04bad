import assert from "node:assert/strict";
import { test } from "node:test";
import { Baseline } from "../src/edits/baseline.ts";

test("a change goes on in its line and ends with another", () => {
  const baseline = new Baseline("ab\ncd\n");
  baseline.edited([{ offset: 0, removed: 0, text: "x" }], "xab\ncd\n");
  baseline.edited([{ offset: 1, removed: 0, text: "y" }], "xyab\ncd\n");
  assert.equal(baseline.before, "ab\ncd\n");
  baseline.edited([{ offset: 5, removed: 1, text: "z" }], "xyab\nzd\n");
  assert.equal(baseline.before, "xyab\ncd\n");
  assert.equal(baseline.after, "xyab\nzd\n");
});

test("a line that comes or goes, several places at once and an undo are no change", () => {
  for (const [edits, undone] of [
    [[{ offset: 2, removed: 0, text: "\r\n" }], false],
    [[{ offset: 2, removed: 1, text: "" }], false],
    [[{ offset: 0, removed: 1, text: "" }, { offset: 3, removed: 1, text: "" }], false],
    [[{ offset: 0, removed: 1, text: "" }], true],
  ] as const) {
    const baseline = new Baseline("ab\ncd\n");
    baseline.edited(edits, "other", undone);
    assert.equal(baseline.before, "other");
  }
});
