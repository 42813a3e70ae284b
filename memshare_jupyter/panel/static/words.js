// What things are called, and how numbers are written.

const number = new Intl.NumberFormat("en-US");
const decimal = new Intl.NumberFormat("en-US", {
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

function units(bytes) {
  let unit = 0;
  while (bytes >= 999.95 && unit < 4) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit ? decimal.format(bytes) : number.format(bytes)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

function span(seconds) {
  for (const [unit, length, until] of [
    ["s", 1, 120],
    ["min", 60, 7200],
    ["h", 3600, 172800],
  ]) {
    if (seconds < until)
      return `${number.format(Math.round(Math.max(0, seconds) / length))} ${unit}`;
  }
  return `${number.format(Math.round(seconds / 86400))} d`;
}

function count(many, noun) {
  return `${number.format(many)} ${noun}${many === 1 ? "" : "s"}`;
}

/** Write how many of all were found: 3 of 55 pages. */
function someOf(many, all, noun) {
  return many === all ? count(all, noun) : `${number.format(many)} of ${count(all, noun)}`;
}

/** Write numbers in order, those in a row as one: 0–3, 8. */
function spans(numbers) {
  const found = [];
  for (const one of numbers) {
    if (found.length && found.at(-1)[1] === one - 1) found.at(-1)[1] = one;
    else found.push([one, one]);
  }
  return found.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

const DIGITS = 20;

/** Return what to order by: numbers in names are numbers, v9 before v13, as core/names.py has it. */
const inOrder = (key) =>
  typeof key === "string"
    ? key.replace(/[0-9]+/g, (digits) => digits.padStart(DIGITS, "0"))
    : key;

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function pageName({ namespace, variable }) {
  return variable.includes(".") ? `${namespace}.\`${variable}\`` : `${namespace}.${variable}`;
}

function shapeOf(page) {
  if (page.shape.length) return page.shape.map((n) => number.format(n)).join(" × ");
  return page.kind === "array" ? "scalar" : "";
}

/** Return Python that attaches a page; the kernel says so when its name cannot be a variable's. */
function snippet({ namespace, variable, view }) {
  const [n, v] = [JSON.stringify(namespace), JSON.stringify(variable)];
  return `from memshare_jupyter import retrieve_views\n${view ?? variable} = retrieve_views(${n}, ${v})[${v}]`;
}

/** Write a word so that a magic reads it as one; null when no quotes do. */
function quoted(word) {
  if (/^[^\s"'#\\-][^\s"'#\\]*$/.test(word)) return word;
  for (const quote of ["'", '"']) {
    if (!word.includes(quote) && !word.includes("\\")) return quote + word + quote;
  }
  return null;
}

const STATES = {
  active: ["●", "its owner has it; viewers may read"],
  writable: ["✎", "its owner has it; viewers may write, too"],
  draining: ["◐", "released by its owner; gone with its last view"],
  orphaned: ["○", "its owner ended; gone with its last view"],
};

const ENGINE = /^engine (\d+)$/;

/** Name a process shortly: there may be many kernels, but only one that shows this panel. */
function called({ label, pid, here }) {
  if (here) return label.includes(".") ? "this notebook" : "this kernel";
  return ENGINE.test(label) ? label : `${label || "pid"} ${pid}`;
}

function ownerOf(page) {
  const owner = page.holders.find((holder) => holder.role === "owner");
  if (owner) return called(owner);
  return `${page.ours ? "this kernel" : `pid ${page.owner}`}, ${page.state === "orphaned" ? "gone" : "let go"}`;
}

/** Return one chip a process, or one for all engines with consecutive ids; the owner's first. */
function chipsOf(page, most = 5) {
  const processes = new Map();
  for (const holder of page.holders) {
    if (!processes.has(holder.process)) processes.set(holder.process, []);
    processes.get(holder.process).push(holder);
  }
  const chips = [];
  const engines = [];
  for (const claims of processes.values()) {
    const text = called(claims[0]);
    const owner = claims.some((claim) => claim.role === "owner");
    const engine = ENGINE.exec(text);
    if (engine && !owner) engines.push([Number(engine[1]), claims[0].role]);
    else
      chips.push({
        text,
        owner,
        title: `${text}, pid ${claims[0].pid}: ${claims.map((claim) => claim.role).join(" and ")}`,
      });
  }
  engines.sort(([a], [b]) => a - b);
  for (let i = 0, j; i < engines.length; i = j) {
    const [first, role] = engines[i];
    const goesOn = ([id, its], last) => id - last <= 1 && its === role;
    for (j = i + 1; j < engines.length && goesOn(engines[j], engines[j - 1][0]);) j += 1;
    const text = j === i + 1 ? `engine ${first}` : `engines ${first}-${engines[j - 1][0]}`;
    const kept = role === "kept";
    const about = kept ? "kept mapped for the next call; goes with the owner's release" : role;
    chips.push({ text, owner: false, kept, title: `${count(j - i, "engine")}: ${about}` });
  }
  if (chips.length <= most) return chips;
  const rest = chips.splice(Math.max(1, most - 1));
  const title = rest.map((chip) => chip.title).join("\n");
  return [...chips, { text: `+${rest.length}`, owner: false, rest: true, title }];
}

const viewsOf = (page) => page.holders.filter((holder) => holder.role === "view").length;
