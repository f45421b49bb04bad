/** Claims about the pure parts behind ghost text. Run by `npm test`, in Node's own runner. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SuggestionCache } from "../src/ghost/cache.ts";
import { regionAtEnd } from "../src/ghost/lexical.ts";
import { type Offered, Outcomes, SEEN_MS } from "../src/ghost/outcome.ts";
import { Pace } from "../src/ghost/pace.ts";
import { argumentsOf, wanted } from "../src/agent/alone.ts";
import { aheadOf, bodyOf } from "../src/agent/completions.ts";
import { serves } from "../src/agent/connection.ts";
import { around, Edits, MAX_BYTES, MAX_PIECES, PIECE_BYTES, pieces } from "../src/ghost/context.ts";
import { BEFORE, first, STEP, whole } from "../src/ghost/window.ts";
import { type Circumstances, silenceHere, type Switches } from "../src/ghost/silence.ts";

const place = (prefix: string, suffix = "\n}") => ({ document: "file:///A.java", prefix, suffix });
const known = (...texts: string[]) => ({ id: "cmpl-1", model: "sordino-1", texts, byHand: false });

describe("the cache of suggestions", () => {
  test("typing along a suggestion leaves its rest", () => {
    const cache = new SuggestionCache();
    cache.put(place("return "), known("balance;", "0;"));
    const rest = cache.find(place("return bal"));
    assert.deepEqual(rest?.texts, ["ance;"]);
    assert.deepEqual([rest?.choices, rest?.typed], [[0], 3]);
  });
  test("typing something else finds the alternative that agrees, with its own number", () => {
    const cache = new SuggestionCache();
    cache.put(place("return "), known("balance;", "0;"));
    assert.deepEqual(cache.find(place("return 0"))?.choices, [1]);
    assert.equal(cache.find(place("return owner")), undefined);
  });
  test("going back to an earlier place finds it again, with other text behind it not", () => {
    const cache = new SuggestionCache();
    cache.put(place("return "), known("balance;"));
    cache.put(place("return owner."), known("name();"));
    assert.deepEqual(cache.find(place("return "))?.texts, ["balance;"]);
    assert.equal(cache.find(place("return ", ";\n}")), undefined);
    assert.equal(cache.find({ ...place("return "), document: "file:///B.java" }), undefined);
  });
  test("that there is nothing to suggest is known too, but only for that place", () => {
    const cache = new SuggestionCache();
    cache.put(place("return 0;"), known());
    assert.deepEqual(cache.find(place("return 0;"))?.texts, []);
    assert.equal(cache.find(place("return 0; ")), undefined);
  });
  test("it forgets the oldest of more than sixteen", () => {
    const cache = new SuggestionCache();
    for (let number = 0; number < 17; number += 1) cache.put(place(`${number}:`), known("x"));
    assert.equal(cache.find(place("0:")), undefined);
    assert.notEqual(cache.find(place("1:")), undefined);
  });
});

describe("strings and comments", () => {
  const cases: [string, string, string][] = [
    ["java", "int a = 1; // the ", "comment"],
    ["java", "int a = 1; // the\nint b = ", "code"],
    ["java", "/* of\n * many ", "comment"],
    ["java", '/* " */ int a = ', "code"],
    ["java", 'String s = "a \\" // ', "string"],
    ["java", 'String s = "a"; char c = \'"\'; int d = ', "code"],
    ["java", 'String s = "never closed\nint b = ', "code"],
    ["java", 'String s = """\n a "quoted" ', "string"],
    ["python", '"""Says # no', "string"],
    ["python", "x = 'a'  # it's ", "comment"],
    ["python", "x = 1  # it's\ny = ", "code"],
    ["typescript", "const a = `one\ntwo ${", "string"],
    ["go", "a := `\\` + ", "code"],
    ["rust", "fn first<'a>(x: &'a str) -> ", "code"],
    ["lua", "--[[ long\n", "comment"],
    ["sql", "select 'it''s' -- ", "comment"],
    ["brainfuck", "// '\"", "code"],
  ];
  for (const [language, text, expected] of cases) {
    test(`${language}: ${JSON.stringify(text)} ends in ${expected}`, () => {
      assert.equal(regionAtEnd(text, language), expected);
    });
  }
  test("a file of two million characters ends in code too", () => {
    assert.equal(regionAtEnd('x = "a" // b\n'.repeat(150_000), "java"), "code");
  });
});

describe("the wait after a key", () => {
  const typing = (interval: number, keys = 20): Pace => {
    const pace = new Pace();
    for (let key = 0; key < keys; key += 1) pace.pressed(key * interval);
    return pace;
  };
  test("is nothing after a space, a bracket and a pause", () => {
    const fast = typing(80);
    assert.equal(fast.delay("return ", 150), 0);
    assert.equal(fast.delay("call(", 150), 0);
    for (let pause = 1; pause < 9; pause += 1) fast.pressed(pause * 1e6);
    assert.equal(fast.delay("retu", 150), 0);
  });
  test("is something while someone types, and never passes the setting", () => {
    assert.ok(typing(80).delay("retu", 150) > 0);
    assert.equal(typing(200).delay("retu", 10), 10);
  });
  test("shrinks when the agent answers faster than keys come", () => {
    const quick = typing(150);
    for (let answer = 0; answer < 20; answer += 1) quick.answered(10);
    assert.ok(quick.delay("retu", 150) < typing(150).delay("retu", 150));
  });
});

describe("where nothing is asked", () => {
  const on: Switches = {
    enable: true,
    languages: { "*": true, markdown: false },
    suggestInComments: true,
    suggestInStrings: true,
    whileListIsOpen: "extend",
  };
  const here: Circumstances = {
    scheme: "file",
    language: "java",
    characters: 100,
    excluded: false,
    cursors: 1,
    asked: false,
    listOpen: false,
    region: () => "comment",
  };
  test("by default, in an ordinary file, there is no rule against it", () => {
    assert.equal(silenceHere(on, here), undefined);
  });
  test("switched off, a person can still ask", () => {
    assert.equal(silenceHere({ ...on, enable: false }, here), "off");
    assert.equal(silenceHere({ ...on, enable: false }, { ...here, asked: true }), undefined);
  });
  test("each switch has its own word", () => {
    assert.equal(silenceHere(on, { ...here, language: "markdown" }), "language");
    assert.equal(silenceHere({ ...on, languages: { "*": false, java: true } }, here), undefined);
    assert.equal(silenceHere({ ...on, languages: { "*": false } }, here), "language");
    assert.equal(silenceHere(on, { ...here, excluded: true }), "excluded");
    assert.equal(silenceHere(on, { ...here, scheme: "output" }), "scheme");
    assert.equal(silenceHere(on, { ...here, cursors: 2 }), "cursors");
    assert.equal(silenceHere(on, { ...here, characters: 3e6 }), "size");
    assert.equal(silenceHere({ ...on, suggestInComments: false }, here), "comment");
    assert.equal(silenceHere({ ...on, suggestInStrings: false }, here), undefined);
    assert.equal(silenceHere({ ...on, whileListIsOpen: "hide" }, { ...here, listOpen: true }), "list");
    assert.equal(silenceHere(on, { ...here, listOpen: true }), undefined);
  });
  test("the text is not scanned when strings and comments are allowed", () => {
    const unread = { ...here, region: (): never => assert.fail("it was read") };
    assert.equal(silenceHere(on, unread), undefined);
  });
});

describe("what became of a suggestion", () => {
  const offer: Offered = { document: "a", offset: 10, id: "1", choice: 0, text: "balance;" };
  const watched = () => {
    const told: [string, number?][] = [];
    const timers: (() => void)[] = [];
    const outcomes = new Outcomes(
      (type, facts) => told.push(facts.characters === undefined ? [type] : [type, facts.characters]),
      (milliseconds, act) => {
        assert.equal(milliseconds, SEEN_MS);
        timers.push(act);
        return () => void timers.splice(timers.indexOf(act), 1);
      },
    );
    return { told, outcomes, wait: () => timers.splice(0).forEach((act) => act()) };
  };
  test("what flickers by between two keys was not shown", () => {
    const { told, outcomes, wait } = watched();
    outcomes.offered(offer);
    outcomes.edited("a", { offset: 10, removed: 0, text: "x" });
    wait();
    assert.deepEqual(told, []);
  });
  test("what stood and was typed away was shown and dismissed", () => {
    const { told, outcomes, wait } = watched();
    outcomes.offered(offer);
    wait();
    outcomes.edited("a", { offset: 10, removed: 0, text: "x" });
    assert.deepEqual(told, [["view"], ["typed", 1], ["dismiss"]]);
  });
  test("typing along is neither acceptance nor dismissal", () => {
    const { told, outcomes, wait } = watched();
    outcomes.offered(offer);
    wait();
    outcomes.edited("a", { offset: 10, removed: 0, text: "b" });
    outcomes.offered({ ...offer, offset: 11, text: "alance;" });
    assert.deepEqual(told, [["view"]]);
  });
  test("a word and then the rest are counted once each", () => {
    const { told, outcomes, wait } = watched();
    outcomes.offered(offer);
    wait();
    outcomes.edited("a", { offset: 10, removed: 0, text: "balance" });
    outcomes.edited("a", { offset: 17, removed: 0, text: ";" });
    outcomes.accepted("1", 0, 1);
    assert.deepEqual(told, [["view"], ["partial", 7], ["select", 1]]);
  });
  test("moving away dismisses; moving with the text does not", () => {
    const { told, outcomes, wait } = watched();
    outcomes.offered(offer);
    wait();
    outcomes.moved("a", 10);
    outcomes.moved("a", 3);
    assert.deepEqual(told, [["view"], ["dismiss"]]);
  });
});

describe("the window of text", () => {
  test("a cut never leaves half a character", () => {
    const text = "a😀文😀b";
    for (let start = 0; start <= text.length; start += 1) {
      for (let end = start; end <= text.length; end += 1) {
        const cut = whole(text.slice(start, end));
        assert.doesNotMatch(cut, /\p{Cs}/u);
        assert.ok(text.includes(cut));
      }
    }
  });
  test("it holds no more than the engine reads, and stands still while someone types", () => {
    for (const at of [0, 10, BEFORE, BEFORE + 1, BEFORE + STEP + 1, 5 * BEFORE + 7]) {
      assert.ok(at - first(at) <= BEFORE);
      assert.equal(first(at) % STEP, 0);
    }
    assert.equal(first(BEFORE + STEP + 1), first(BEFORE + STEP + 100));
  });
});

describe("pieces of other files", () => {
  const bytes = (text: string): number => Buffer.byteLength(text);
  test("are whole lines around the place, as many as fit, whatever the text and the place", () => {
    for (const text of ["", "\n", "a", "a\nb\nc", "é😀\r\n".repeat(40), "line\n".repeat(50) + "no end", "x".repeat(300)]) {
      for (let place = 0; place <= text.length + 1; place += 1) {
        for (const limit of [0, 1, 7, 64, 1000]) {
          const piece = around(text, place, limit);
          const start = text.indexOf(piece);
          assert.ok(bytes(piece) <= limit);
          assert.ok(text.split(/(?<=\n)/).join("|").includes(piece.split(/(?<=\n)/).join("|")));
          assert.ok(start === 0 || text[start - 1] === "\n" || piece === "");
          assert.ok(limit < bytes(text) || piece === text);
        }
      }
    }
  });
  test("hold the line that was edited, and lines on both sides of it", () => {
    const text = Array.from({ length: 1000 }, (_, number) => `line ${number}\n`).join("");
    const piece = around(text, text.indexOf("line 500") + 3, 90);
    assert.ok(["line 499\n", "line 500\n", "line 501\n"].every((line) => piece.includes(line)));
  });
  test("are eight at most, in 32 KB, and one that is blank is none", () => {
    const tabs = Array.from({ length: 20 }, (_, number) => ({ document: `file:///${number}`, text: "字段 = 1\n".repeat(9999), place: 0 }));
    const sent = pieces(tabs);
    assert.equal(sent.length, MAX_PIECES);
    assert.ok(sent.every(({ text }) => bytes(text) <= PIECE_BYTES));
    assert.ok(sent.reduce((sum, { text }) => sum + bytes(text), 0) <= MAX_BYTES);
    assert.deepEqual(pieces([{ document: "a", text: " \n\n", place: 0 }]), []);
  });
  test("come from the file that was edited or shown last first, around its last edit", () => {
    const edits = new Edits();
    edits.touched("b", 40);
    edits.touched("c", 7);
    edits.touched("b", -1);
    assert.deepEqual(edits.order(["a", "c", "b", "d"]), ["b", "c", "a", "d"]);
    assert.deepEqual([edits.place("b"), edits.place("c"), edits.place("a")], [40, 7, 0]);
    for (let number = 0; number < 1000; number += 1) edits.touched(`${number}`, number);
    assert.equal(edits.place("b"), 0);
    assert.equal(edits.order(Array.from({ length: 30 }, (_, number) => `${number}`)).length, MAX_PIECES);
  });
});

describe("a request", () => {
  test("says the file, how sure a text must be, and what lies beside the file", () => {
    const context = [{ path: "file:///b.py", text: "x = 1\n" }];
    const body = bodyOf({ ...place("return "), alternatives: 3, show: "quiet", context });
    assert.deepEqual([body["path"], body["show"], body["context"], body["n"]], ["file:///A.java", "quiet", context, 3]);
  });
  test("ahead of the first key asks for the same text, and for no answer", () => {
    const ahead = aheadOf(place("return "));
    const body = bodyOf({ ...place("return "), alternatives: 1, show: "all", context: [] });
    assert.deepEqual([ahead["input_prefix"], ahead["input_suffix"], ahead["path"]], [body["prompt"], body["suffix"], body["path"]]);
    assert.equal(ahead["n_predict"], 0);
  });
});

describe("the model that answers", () => {
  test("is a release's, whatever its base, with a person's own adapter or without", () => {
    for (const model of ["sordino-3", "smollm2-3", "qwen2.5-coder-0.5b-3", "smollm2-3-personal"]) assert.ok(serves(model, 3), model);
    for (const model of [undefined, "smollm2", "sordino-13", "smollm2-3", "sordino-base"]) assert.ok(!serves(model, 33), String(model));
  });
});

describe("an endpoint of one's own", () => {
  const wish = { on: true, command: "sordino", base: "", folders: ["/work"] };
  const nothing = { folder: "/f", joined: false, completion: undefined, control: undefined, health: undefined, member: undefined, unsafe: undefined };
  const address = { port: 1, socket: undefined, token: "t" };
  test("is started only where no member is and nothing answers", () => {
    assert.ok(wanted(wish, nothing, false));
    assert.ok(!wanted(wish, { ...nothing, joined: true }, false));
    assert.ok(!wanted(wish, { ...nothing, completion: address }, false));
    assert.ok(!wanted(wish, { ...nothing, control: address }, false));
    assert.ok(!wanted(wish, { ...nothing, unsafe: "x" }, false));
    assert.ok(!wanted({ ...wish, on: false }, nothing, false));
    assert.ok(!wanted({ ...wish, folders: [] }, nothing, false));
    assert.ok(!wanted(wish, nothing, true));
  });
  test("serves the workspace's folders, and the base that was chosen", () => {
    assert.deepEqual(argumentsOf(wish, "/f"), ["serve", "--while-stdin", "--json", "--folder", "/f", "--repo", "/work"]);
    assert.deepEqual(argumentsOf({ ...wish, base: "smollm2" }, "/f").slice(3), ["--folder", "/f", "--base", "smollm2", "--repo", "/work"]);
  });
});
