// The columns of the table: which of them there is room for, and how wide each is.
//
// Widths are those of what stands in the columns, measured as the host draws it. A column is as wide
// as its widest text was since the panel has this width, so that nothing moves to and fro; what is
// left over is the variable's.

const PAD_PX = 16; // of a cell, left and right
const CARET_PX = 19; // and of the sign that a row can be opened
const NAME_PX = 140; // the variable has so much before states have words and pages buttons
const LEAST_NAME_PX = 90; // and so much before there are holders
const ENOUGH_NAME_PX = 260; // with so much, others come before the whole name
const FIRST_PX = 170; // the first holder has so much, if it needs it, before there are words
const ENOUGH_HOLDERS_PX = 220; // and all of them have so much before there are other columns

const state = (page) => Object.keys(STATES).indexOf(page.state);

// `sum` makes the number in a namespace's row, `most` is the longest text there will be.
const COLUMNS = [
  { key: "name", title: "Variable", of: (p) => p.variable },
  { key: "kind", title: "Kind", of: (p) => p.kind },
  {
    key: "shape",
    title: "Shape",
    numeric: true,
    of: shapeOf,
    by: (p) => p.shape.reduce((a, b) => a * b, 1),
  },
  { key: "dtype", title: "Dtype", of: (p) => p.dtype },
  { key: "order", title: "Order", of: (p) => p.order },
  {
    key: "size",
    title: "Size",
    numeric: true,
    of: (p) => units(p.size),
    by: (p) => p.size,
    sum: (p) => p.size,
    show: units,
    most: "999.9 MB",
  },
  { key: "owner", title: "Owner", of: ownerOf },
  {
    key: "views",
    title: "Views",
    numeric: true,
    of: (p) => number.format(viewsOf(p)),
    by: viewsOf,
    sum: viewsOf,
    show: number.format,
    most: "99,999",
  },
  {
    key: "handles",
    title: "Handles",
    numeric: true,
    of: (p) => number.format(p.holders.length),
    by: (p) => p.holders.length,
    sum: (p) => p.holders.length,
    show: number.format,
    most: "99,999",
  },
  { key: "holders", title: "Holders", by: (p) => p.holders.map(called).join(" ") },
  { key: "mode", title: "Mode", of: (p) => p.mode },
  {
    key: "age",
    title: "Age",
    numeric: true,
    of: (p, now) => span(now - p.created),
    by: (p) => -p.created,
    most: "119 min",
  },
  { key: "state", title: "State", by: state },
  { key: "actions", title: "Actions" },
];

// Where there is room, these come one after the other.
const MORE = ["shape", "age", "dtype", "views", "kind", "owner", "order", "handles", "mode"];

class Columns {
  constructor() {
    this.element = h("div", { class: "ms-ruler", "aria-hidden": "true" });
    this.known = new Map();
    this.forget();
  }

  /** Begin anew, as in a panel of another width. */
  forget() {
    this.known.clear();
    this.needs = null;
  }

  /** Return the width that an element has by itself; `key` says which others have the same. */
  width(key, make) {
    if (!this.known.has(key)) {
      const element = make();
      this.element.replaceChildren(element);
      this.known.set(key, Math.ceil(element.getBoundingClientRect().width));
      this.element.replaceChildren();
    }
    return this.known.get(key);
  }

  /** Return the width of a text; digits are all as wide as each other. */
  text(text, css = "") {
    const like = text.replace(/\d/g, "0");
    return this.width(`${css} ${like}`, () => h("span", { class: css }, like));
  }

  chips(chips) {
    const one = (chip) => {
      const key = `chip ${chip.owner} ${chip.text.replace(/\d/g, "0")}`;
      return this.width(key, () => chipElement(chip));
    };
    return chips.reduce((sum, chip) => sum + one(chip) + 4, -4);
  }

  /** Return as many chips as there is room for: the last one stands for the others. */
  fitting(page) {
    for (let most = 5; most > 1; most -= 1) {
      const chips = chipsOf(page, most);
      if (this.chips(chips) <= this.chipsPx) return chips;
    }
    return chipsOf(page, 1);
  }

  /** Widen the columns to what stands in pages. */
  learn(pages) {
    if (!this.needs) this.measure();
    for (const page of pages) {
      if (this.seen.has(page)) continue;
      this.seen.add(page);
      this.widen("holders", this.chips(chipsOf(page)));
      this.widen("first", this.chips(chipsOf(page, 1)));
      const count = this.text("\u00a099 pages");
      this.widen("name", CARET_PX + 2 + this.text(page.namespace, "ms-namespace") + count);
      for (const column of COLUMNS) {
        if (!column.of || column.most) continue;
        const text = column.of(page);
        // Of numbers and of names in type of one width the longest is the widest.
        const one = column.numeric || column.key === "name";
        if (one && text.length <= this.longest[column.key]) continue;
        this.longest[column.key] = text.length;
        const name = column.key === "name";
        this.widen(column.key, name ? CARET_PX + this.text(text, "ms-name") : this.text(text));
      }
    }
  }

  /** Find out what the columns need whatever is shared. */
  measure() {
    this.seen = new WeakSet();
    this.needs = {};
    this.longest = Object.fromEntries(COLUMNS.map((column) => [column.key, 0]));
    for (const { key, title, most } of COLUMNS) {
      this.widen(key, this.text(`${title} ↓`, "ms-bold"));
      if (most) this.widen(key, this.text(most, "ms-bold"));
    }
    this.character = this.text("0".repeat(40), "ms-name") / 40;
    this.sign = this.text("State", "ms-bold") + PAD_PX;
    for (const name of Object.keys(STATES))
      this.widen("state", this.width(`state ${name}`, () => stateElement(name)));
    const make = () => h("span", {}, ...[...actionsElements(), h("button", { class: "ms-icon" })].flatMap((one) => [one, " "]));
    this.needs.actions = this.width("actions", make) + PAD_PX;
  }

  widen(key, px) {
    this.needs[key] = Math.max(this.needs[key] ?? 0, px + PAD_PX);
  }

  /** Choose the columns for a width; all but the variable's are told how wide they are. */
  fit(room) {
    const { needs } = this;
    const name = Math.min(needs.name, NAME_PX);
    const heading = this.text("Holders ↓", "ms-bold") + PAD_PX;
    const px = { size: needs.size };
    let left = room - px.size;
    const take = (key, width, least) => {
      if (left - width < least) return false;
      left -= width - (px[key] ?? 0);
      px[key] = width;
      return true;
    };
    take("state", this.sign, LEAST_NAME_PX);
    if (take("holders", Math.max(heading, Math.min(needs.first, FIRST_PX)), LEAST_NAME_PX)) {
      // The word comes with the sign, which has its room already.
      if (take("words", needs.state - this.sign, name)) px.state = needs.state;
      if (px.words && take("actions", needs.actions, name)) {
        const least = Math.min(needs.name, ENOUGH_NAME_PX);
        const chips = Math.max(0, Math.min(needs.holders, ENOUGH_HOLDERS_PX) - px.holders);
        MORE.every((key) => take(key, needs[key], least + chips));
      }
      // What is over goes to the name and the chips until both have enough, and then all they need;
      // the rest is the name's.
      for (const [enough, most] of [
        [ENOUGH_NAME_PX, ENOUGH_HOLDERS_PX],
        [Infinity, Infinity],
      ]) {
        const over = left - Math.min(needs.name, enough);
        const more = Math.min(over, Math.min(needs.holders, most) - px.holders);
        px.holders += Math.max(0, more);
        left -= Math.max(0, more);
      }
    }
    this.signs = !px.words;
    this.tight = !px.holders; // for the sums and buttons of namespaces
    // Of a name that is too long these many characters are seen, of its head and of its end.
    const characters = Math.floor((left - PAD_PX - CARET_PX - 2) / this.character);
    this.head = Math.max(3, characters - TAIL);
    this.tail = Math.max(1, Math.min(TAIL, characters - this.head));
    this.chipsPx = (px.holders ?? 0) - PAD_PX;
    this.px = px;
    this.shown = COLUMNS.filter(({ key }) => key === "name" || px[key]);
    return this.shown;
  }
}
