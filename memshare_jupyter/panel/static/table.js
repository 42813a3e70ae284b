// The table of pages. Of its rows only those in sight are in the document: 5,000 of them would cost
// some hundred times the layout of the forty that can be seen.

const NARROW_PX = 560; // below this width an opened row has no room for all about a holder
const MEDIUM_PX = 660; // and below this one a run needs two lines
const ROW_PX = 26;
const STEP_PX = 4 * ROW_PX;
const OVERSCAN_PX = 10 * ROW_PX;
class Table {
  constructor(store, questions) {
    this.store = store;
    this.questions = questions;
    this.pages = [];
    this.opened = new Set();
    this.heights = new Map();
    this.rows = new Map();
    this.columns = [];
    this.room = new Columns();
    this.sort = { key: "name", down: false };
    this.filter = "";
    this.header = h("tr");
    this.above = h("tr", { class: "ms-spacer", "aria-hidden": "true" });
    this.below = h("tr", { class: "ms-spacer", "aria-hidden": "true" });
    const body = h("tbody", {}, this.above, this.below);
    this.table = h("table", { "aria-label": "Shared pages" }, h("thead", {}, this.header), body);
    const label = { role: "group", "aria-label": "Shared pages, scrollable", tabindex: "0" };
    const onscroll = () => this.drawRows();
    this.none = h("div", { class: "ms-none", role: "status", hidden: true });
    this.found = h("span", { class: "ms-found", role: "status", hidden: true });
    const inside = [this.room.element, this.table, this.none];
    this.element = h("div", { class: "ms-scroller", ...label, onscroll }, ...inside);
    this.handle = this.makeHandle();
  }

  /** Make the bar that changes the height of the table: by a pointer, or by the arrow keys. */
  makeHandle() {
    const set = (height) => {
      const most = Math.max(4 * ROW_PX, this.element.scrollHeight);
      const px = Math.round(Math.min(most, Math.max(4 * ROW_PX, height)));
      this.element.style.height = this.element.style.maxHeight = `${px}px`;
      handle.ariaValueNow = px;
      this.drawRows();
    };
    const moved = (event) => set(event.clientY - this.element.getBoundingClientRect().top);
    const onkeydown = (event) => {
      const step = { ArrowDown: STEP_PX, ArrowUp: -STEP_PX }[event.key];
      if (!step) return;
      event.preventDefault();
      set(this.element.clientHeight + step);
    };
    const onpointerdown = (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.addEventListener("pointermove", moved);
    };
    const onpointerup = () => handle.removeEventListener("pointermove", moved);
    const handle = h("div", {
      class: "ms-handle",
      role: "separator",
      tabindex: "0",
      title: "Drag, or use the arrow keys, to change the height of the table",
      "aria-label": "Height of the table",
      "aria-orientation": "horizontal",
      "aria-valuenow": 0,
      onkeydown,
      onpointerdown,
      onpointerup,
      onpointercancel: onpointerup,
    });
    return handle;
  }

  /** Choose the columns anew, for another width. */
  fit() {
    this.room.forget();
    this.heights.clear();
    this.arranged = false;
  }

  /** Choose the columns for which there is room, and give each its width. */
  lay() {
    const width = this.element.clientWidth;
    if (!width) return; // not in sight
    this.room.learn(this.pages);
    const columns = this.room.fit(width);
    const { px, signs, tight, head, tail } = this.room;
    const key = [...columns.map((column) => column.key), tight].join(" ");
    if (key !== this.laid) {
      this.laid = key;
      this.columns = columns;
      this.tight = tight;
      this.header.replaceChildren(...columns.map((column) => this.headerCell(column)));
      for (const row of this.rows.values()) row.element.remove();
      this.rows.clear();
    }
    this.table.classList.toggle("ms-signs", signs);
    this.table.style.setProperty("--ms-head", `calc(${head}ch + 1px)`); // the sign needs no rounding
    this.table.style.setProperty("--ms-tail", `${tail}ch`);
    for (const cell of this.header.children) {
      const own = px[cell.dataset.column];
      cell.style.width = own ? `${own}px` : "";
    }
  }

  /** Leave the rows that contain a text. */
  narrow(text) {
    this.filter = text;
    this.arranged = false;
  }

  /** Bring the rows up to date; when paused, without looking for other pages. */
  draw(paused) {
    if (!paused && this.version !== this.store.version) {
      this.version = this.store.version;
      this.pages = [...this.store.pages.values()];
      this.arranged = false;
    }
    this.element.hidden = this.handle.hidden = this.pages.length === 0;
    if (!this.arranged) this.arrange();
    this.drawRows();
  }

  headerCell(column) {
    const properties = {
      scope: "col",
      class: `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`,
      "data-column": column.key,
    };
    if (column.key === "actions")
      return h("th", properties, h("span", { class: "ms-hidden" }, "Actions"));
    const pressed = () => {
      const down =
        this.sort.key === column.key
          ? !this.sort.down
          : Boolean(column.numeric && column.key !== "age");
      this.sort = { key: column.key, down };
      this.arrange();
      this.drawRows();
    };
    return h(
      "th",
      properties,
      h(
        "button",
        { class: "ms-sort", onclick: pressed },
        column.title,
        h("span", { class: "ms-arrow", "aria-hidden": "true" }),
      ),
    );
  }

  /** Put pages into groups and in order; find out where each row stands. */
  arrange() {
    this.lay();
    const column = COLUMNS.find((one) => one.key === this.sort.key);
    const key = column.by ?? column.of;
    const sign = this.sort.down ? -1 : 1;
    const now = this.store.now();
    const groups = new Map();
    const all = new Map();
    const found = { pages: 0, size: 0 };
    for (const page of this.pages) {
      all.set(page.namespace, (all.get(page.namespace) ?? 0) + 1);
      if (this.filter && !page.text.includes(this.filter)) continue;
      found.pages += 1;
      found.size += page.size;
      if (!groups.has(page.namespace)) groups.set(page.namespace, []);
      groups.get(page.namespace).push(page);
    }
    const order = [...groups].map(([namespace, pages]) => {
      const keyed = pages.map((page) => [inOrder(key(page, now)), inOrder(page.variable), page]);
      keyed.sort((a, b) => sign * compare(a[0], b[0]) || compare(a[1], b[1]));
      return {
        namespace,
        pages: keyed.map((entry) => entry[2]),
        sum: column.sum ? pages.reduce((n, p) => n + column.sum(p), 0) : 0,
      };
    });
    order.sort(
      (a, b) =>
        (column.sum
          ? sign * (a.sum - b.sum)
          : column.key === "name"
            ? sign * compare(inOrder(a.namespace), inOrder(b.namespace))
            : 0) || compare(inOrder(a.namespace), inOrder(b.namespace)),
    );
    this.items = [];
    for (const { namespace, pages } of order) {
      const about = { namespace, pages, all: all.get(namespace) };
      this.items.push({ type: "group", key: `group ${namespace}`, ...about });
      for (const page of pages) {
        this.items.push({ type: "page", key: page.uuid, page });
        if (this.opened.has(page.uuid))
          this.items.push({ type: "details", key: `details ${page.uuid}`, page });
      }
    }
    // The totals above are those of all pages.
    this.found.hidden = !this.filter || !this.pages.length;
    const many = someOf(found.pages, this.pages.length, "page");
    setText(this.found, this.found.hidden ? "" : `${many}, ${units(found.size)}`);
    this.none.hidden = this.items.length > 0;
    setText(this.none, this.none.hidden ? "" : `No page matches ${this.filter}`);
    setAttribute(this.table, "aria-rowcount", this.items.length + 1);
    for (const cell of this.header.children) {
      const mine = cell.dataset.column === this.sort.key;
      setAttribute(cell, "aria-sort", mine ? (this.sort.down ? "descending" : "ascending") : null);
    }
    this.measure();
    this.arranged = true;
  }

  measure() {
    this.tops = new Float64Array(this.items.length + 1);
    for (const [i, item] of this.items.entries()) {
      this.tops[i + 1] =
        this.tops[i] +
        (item.type === "details" ? (this.heights.get(item.key) ?? 6 * ROW_PX) : ROW_PX);
    }
  }

  /** Return the first row that ends below a height. */
  rowAt(y) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  drawRows() {
    if (!this.items) return;
    const { scrollTop, clientHeight } = this.element;
    const first = this.rowAt(Math.max(0, scrollTop - OVERSCAN_PX));
    const last = Math.min(
      this.items.length,
      this.rowAt(scrollTop + clientHeight + OVERSCAN_PX) + 1,
    );
    const wanted = this.items.slice(first, last);
    const keys = new Set(wanted.map((item) => item.key));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    this.above.style.height = `${this.tops[first]}px`;
    this.below.style.height = `${this.tops[this.items.length] - this.tops[last]}px`;
    let after = this.above;
    for (const [i, item] of wanted.entries()) {
      let row = this.rows.get(item.key);
      if (!row) {
        row = { group: groupRow, page: pageRow, details: detailsRow }[item.type](this, item);
        this.rows.set(item.key, row);
      }
      row.update(item);
      setAttribute(row.element, "aria-rowindex", first + i + 2);
      if (after.nextSibling !== row.element) after.after(row.element);
      after = row.element;
    }
    let grown = false;
    for (const item of wanted) {
      if (item.type !== "details") continue;
      const height = this.rows.get(item.key).element.offsetHeight;
      grown ||= this.heights.get(item.key) !== height;
      this.heights.set(item.key, height);
    }
    if (grown) {
      this.measure();
      this.drawRows();
    }
  }

  toggle(uuid) {
    if (!this.opened.delete(uuid)) this.opened.add(uuid);
    this.store.send({ type: "here", opened: this.store.opened() });
    this.arrange();
    this.drawRows();
  }
}
