// The three kinds of rows of the table: of a namespace, of a page, and what an opened page tells.
//
// Each function returns the row's element and a function that brings it up to date.

const TAIL = 8; // characters, of a long name
const COPY = "Copy the lines that attach it in another notebook";
const RESIDENT =
  "What the process has mapped in: a byte that n processes have counts as 1/n for each";
const NOT_MAPPED =
  "This process has nothing of it mapped in. What was written is in memory nevertheless: it counts as the machine's shared memory, and in no process";

function groupRow(table, { namespace }) {
  const hue = table.store.hues.get(namespace);
  const { tight } = table;
  const gc = h(
    "button",
    {
      class: "ms-button ms-small",
      "aria-label": `Release all of ${namespace}`,
      onclick: () => table.questions.gc(namespace),
    },
    tight ? "…" : "Release all …",
  );
  const many = h("span", { class: "ms-muted" });
  const element = h("tr", { class: "ms-group" });
  // The name has the room up to the first sum, and the button that behind the last one. Where that is
  // too little, the sum stands in the room of the name, and the button in the last column.
  const sums = tight ? [] : table.columns.filter((column) => column.sum);
  const first = tight ? table.columns.length - 1 : table.columns.indexOf(sums[0]);
  const last = tight ? first - 1 : table.columns.indexOf(sums.at(-1));
  const title = h("span", { class: "ms-namespace" }, namespace);
  const name = h(
    "th",
    { class: "ms-c-name", scope: "row", colspan: first },
    h("span", { class: `ms-swatch ms-hue-${hue}`, "aria-hidden": "true" }),
    title,
    " ",
    many,
  );
  const cells = new Map();
  element.append(name);
  for (const column of table.columns.slice(first, last + 1)) {
    const cell = h("td", { class: `ms-c-${column.key} ms-n` });
    if (column.sum) cells.set(column, cell);
    element.append(cell);
  }
  const rest = table.columns.length - last - 1;
  element.append(h("td", { class: "ms-c-actions", colspan: rest }, gc));
  let shown;
  let held;
  const update = ({ pages, all }) => {
    if (pages !== shown) {
      shown = pages;
      held = pages.some((page) => page.owned || page.viewed);
      const found = someOf(pages.length, all, "page");
      const size = units(pages.reduce((sum, page) => sum + page.size, 0));
      setText(many, tight ? `${found}, ${size}` : found);
      setAttribute(title, "title", `${namespace}: ${found}, ${size}`);
      for (const [column, cell] of cells)
        setText(cell, column.show(pages.reduce((sum, page) => sum + column.sum(page), 0)));
    }
    gc.disabled = !held || !table.store.alive;
    const about = held
      ? "Release and detach all that this kernel has in it"
      : "This kernel holds nothing of it";
    setAttribute(gc, "title", table.store.alive ? about : table.store.whyOff);
  };
  return { element, update };
}

function pageRow(table, { page }) {
  const cells = new Map();
  const name = pageName(page);
  const open = h(
    "button",
    {
      class: "ms-open",
      "aria-expanded": "false",
      title: name,
      onclick: () => table.toggle(page.uuid),
    },
    h("span", { class: "ms-caret", "aria-hidden": "true" }),
    nameElement(page.variable),
  );
  const label = `Copy attach snippet of ${name}`;
  const copy = copyButton(table.store, snippet(page), label);
  const [release, detach] = actionsElements(
    { "aria-label": `Release ${name}`, onclick: () => table.questions.release(shown) },
    { "aria-label": `Detach ${name}`, onclick: () => table.questions.detach(shown) },
  );
  const element = h("tr", { class: "ms-page", "data-page": name });
  for (const column of table.columns) {
    const css = `ms-c-${column.key}${column.numeric ? " ms-n" : ""}`;
    const cell = h(column.key === "name" ? "th" : "td", {
      class: css,
      scope: column.key === "name" ? "row" : null,
      "data-column": column.key,
    });
    if (column.key === "name") cell.append(open);
    else if (column.key === "actions")
      cell.append(release, " ", detach, " ", copy);
    else cells.set(column, cell);
    element.append(cell);
  }
  let shown;
  let room;
  const update = ({ page: now }) => {
    setAttribute(open, "aria-expanded", table.opened.has(now.uuid));
    allow(table, { release, detach, copy }, now);
    const same = now === shown;
    const at = table.store.now();
    for (const [column, cell] of cells) {
      if (column.key === "age") setText(cell, column.of(now, at));
      else if (column.key === "holders") {
        if (same && room === table.room.chipsPx) continue;
        room = table.room.chipsPx;
        const chips = table.room.fitting(now).map(chipElement);
        cell.replaceChildren(h("div", { class: "ms-chips" }, ...chips));
      } else if (same) continue;
      else if (column.key === "state") cell.replaceChildren(stateElement(now.state));
      else {
        setText(cell, column.of(now));
        cell.title = cell.textContent;
      }
    }
    shown = now;
  };
  return { element, update };
}

function actionsElements(release = {}, detach = {}) {
  const css = "ms-button ms-small";
  return [
    h("button", { class: css, ...release }, "Release"),
    h("button", { class: css, ...detach }, "Detach"),
  ];
}

function stateElement(name) {
  const [sign, about] = STATES[name];
  return h(
    "span",
    { class: `ms-state ms-${name}`, title: about },
    h("span", { "aria-hidden": "true" }, sign),
    h("span", { class: "ms-state-name" }, ` ${name}`),
  );
}

/** Write a name so that what does not fit is left out of its middle: the ends of names differ. */
function nameElement(text) {
  const tail = [...text].length > TAIL + 4 ? [...text].slice(-TAIL).join("") : "";
  const head = h("span", { class: "ms-name-head" }, tail ? text.slice(0, -tail.length) : text);
  const end = tail ? [h("span", { class: "ms-name-tail" }, tail)] : [];
  return h("span", { class: "ms-name" }, head, ...end);
}

function detailsRow(table) {
  const facts = h("dl", { class: "ms-facts" });
  const release = h(
    "button",
    { class: "ms-button", onclick: () => table.questions.release(shown) },
    "Release …",
  );
  const detach = h(
    "button",
    { class: "ms-button", onclick: () => table.questions.detach(shown) },
    "Detach …",
  );
  const buttons = h("div", { class: "ms-buttons" }, release, detach);
  const body = h("tbody");
  const heads = [
    ["process"],
    ["pid", "ms-n"],
    ["engine", "ms-n ms-wide"],
    ["host", "ms-wide"],
    ["role"],
    ["since", "ms-n"],
    ["resident (PSS)", "ms-n", RESIDENT],
  ];
  const holders = h(
    "table",
    { class: "ms-holders" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ...heads.map(([text, css = "", title]) => h("th", { scope: "col", class: css, title }, text)),
      ),
    ),
    body,
  );
  const list = h("div", { class: "ms-holder-list", tabindex: "0", role: "group" }, holders);
  const element = h(
    "tr",
    { class: "ms-details" },
    h(
      "td",
      { colspan: table.columns.length },
      h("div", { class: "ms-details-box" }, facts, list, buttons),
    ),
  );
  const texts = new Map();
  const rows = new Map();
  let shown;
  let copy;
  const update = ({ page }) => {
    const name = pageName(page);
    if (!shown) {
      copy = copyButton(table.store, snippet(page), COPY, "Copy attach snippet");
      buttons.append(copy);
      setAttribute(holders, "aria-label", `Holders of ${name}`);
      setAttribute(list, "aria-label", `Holders of ${name}, scrollable`);
      setAttribute(element, "data-details", name);
    }
    shown = page;
    allow(table, { release, detach, copy }, page);
    const at = table.store.now();
    // Text that stays the same is left alone: it may be selected, to be copied.
    for (const [term, text] of factsOf(page, at)) {
      if (!texts.has(term)) {
        texts.set(term, h("dd"));
        facts.append(h("div", {}, h("dt", {}, term), texts.get(term)));
      }
      setText(texts.get(term), text);
      texts.get(term).parentElement.hidden = !text;
    }
    const shares = table.store.shares[page.uuid] ?? {};
    // A process that owns and views a page has it in memory once.
    const share = (holder, i) => {
      if (page.holders.findIndex((other) => other.process === holder.process) < i) return "as above";
      return shares[holder.process] === undefined ? "–" : units(shares[holder.process]);
    };
    const key = (holder) => `${holder.process} ${holder.role} ${holder.since}`;
    const keys = new Set(page.holders.map(key));
    for (const [one, row] of rows) {
      if (keys.has(one)) continue;
      row.element.remove();
      rows.delete(one);
    }
    for (const [i, holder] of page.holders.entries()) {
      if (!rows.has(key(holder))) rows.set(key(holder), holderRow(table, holder));
      const row = rows.get(key(holder));
      if (body.children[i] !== row.element) body.insertBefore(row.element, body.children[i] ?? null);
      setText(row.since, span(at - holder.since));
      setText(row.share, share(holder, i));
      setAttribute(row.share, "title", row.share.textContent === "0 B" ? NOT_MAPPED : RESIDENT);
    }
  };
  return { element, update };
}

function factsOf(page, at) {
  return [
    ["page", pageName(page)],
    ["kind", page.kind],
    ["shape", shapeOf(page)],
    ["dtype", page.dtype],
    ["order", page.order],
    ["size", `${units(page.size)} (${number.format(page.size)} B)`],
    ["owner", ownerOf(page)],
    ["mode", page.mode === "r" ? "r: views read only" : "r+: views may write"],
    ["age", span(at - page.created)],
    ["handles", handlesOf(page)],
    ["state", `${page.state}: ${STATES[page.state][1]}`],
  ];
}

function handlesOf(page) {
  const kept = page.holders.filter((holder) => holder.role === "kept").length;
  const views = `${page.holders.length}, of them ${count(viewsOf(page), "view")}`;
  return kept ? `${views}, and ${number.format(kept)} kept mapped for the next call` : views;
}

function holderRow(table, holder) {
  const since = h("td", {
    class: "ms-n",
    title: new Date(holder.since * 1000).toLocaleString(),
  });
  const share = h("td", { class: "ms-n" });
  const element = h(
    "tr",
    {},
    h("th", { scope: "row" }, holder.label || (holder.here ? "this kernel" : "–")),
    h("td", { class: "ms-n" }, `${holder.pid}`),
    h("td", { class: "ms-n ms-wide" }, ENGINE.exec(holder.label)?.[1] ?? "–"),
    h("td", { class: "ms-wide" }, table.store.host),
    h("td", {}, holder.role + (holder.here ? ", this kernel" : "")),
    since,
    share,
  );
  return { element, since, share };
}

/** Say of the buttons of a page whether they can be used, and if not, why. */
function allow(table, { release, detach, copy }, page) {
  const { alive } = table.store;
  release.disabled = !alive || !page.owned;
  detach.disabled = !alive || !page.viewed;
  copy.disabled = !alive || page.state === "draining";
  const owner = page.holders.some((holder) => holder.role === "owner");
  const why = owner
    ? `Owned by ${ownerOf(page)}: release it there`
    : "Its owner has let it go already";
  const title = (button, text) => setAttribute(button, "title", alive ? text : table.store.whyOff);
  title(release, page.owned ? "Release: end this kernel's ownership" : why);
  title(detach, page.viewed ? "Detach: end this kernel's view" : "This kernel has no view of it");
  title(copy, copy.disabled ? "Released by its owner: it cannot be attached any more" : COPY);
}

function chipElement(chip) {
  const sign = h("span", { "aria-hidden": "true" }, chip.owner ? "◆ " : "");
  return h(
    "span",
    {
      class: `ms-chip${chip.owner ? " ms-owner" : ""}${chip.kept ? " ms-kept" : ""}${chip.rest ? " ms-more" : ""}`,
      title: chip.title,
    },
    sign,
    chip.text,
    chip.owner ? h("span", { class: "ms-hidden" }, " (owner)") : "",
    chip.kept ? h("span", { class: "ms-hidden" }, " (kept for the next call)") : "",
  );
}
