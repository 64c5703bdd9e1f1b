// The chat: past conversations, the open one, and the next question.

import { Problem, ask, begin, post } from "./api.js";
import { Answer } from "./answer.js";
import { $, copyOf, make, telling } from "./elements.js";
import { conversations, forget, onChange, remember } from "./past.js";

const TITLE_CHARS = 60;
const WELCOME = "Ask something. The answer streams word by word; reload the page, or lose the network, and it goes on where it was.";

export class Chat {
  constructor(system) {
    this.system = system;
    this.answers = [];
    for (const name of system.backends) $("backend").append(make("option", { value: name }, name));
    $("model").placeholder = system.model;
    $("question").maxLength = system.max_content_chars;
    $("ask").addEventListener("submit", (event) => this.#send(event));
    $("question").addEventListener("keydown", (event) => this.#maySend(event));
    $("stop").addEventListener("click", () => telling($("chat-alert"), () => this.open.stop()));
    $("new-conversation").addEventListener("click", () => this.#startNew());
    $("show-past").addEventListener("click", () => this.#unfold());
    onChange(() => this.#heardOfAnother());
  }

  get open() {
    return this.answers.find((answer) => answer.isOpen);
  }

  /** Show this conversation, or a new one. */
  async show(id = "") {
    this.#unfold(false);
    if (this.id !== id) await this.#load(id);
    for (const answer of this.answers) answer.show(true);
  }

  hide() {
    for (const answer of this.answers) answer.show(false);
  }

  async #load(id) {
    this.#clear(id);
    this.#list();
    const found = id && (await telling($("chat-alert"), () => this.#read(id)));
    if (this.id !== id) return; // another was opened meanwhile
    $("chat-title").textContent = found ? (found.title ?? "Conversation") : "New conversation";
    for (const message of found?.messages ?? []) this.#add(message);
    if (!found?.messages?.length) $("messages").append(make("p", { className: "empty" }, WELCOME));
  }

  async #read(id) {
    try {
      return await ask(`conversations/${id}`);
    } catch (error) {
      if (![404, 422].includes(error.status)) throw error;
      forget(id);
      this.#list();
      throw new Problem("This server has no such conversation any more, so it left your list. Begin a new one.", 404);
    }
  }

  #clear(id) {
    for (const answer of this.answers) answer.leave();
    Object.assign(this, { id, answers: [] });
    $("messages").replaceChildren();
    $("chat-alert").textContent = $("chat-said").textContent = "";
    this.#settle();
  }

  #add(message) {
    if (message.role === "user") return this.#addQuestion(message.content);
    const question = this.asked;
    const answer = new Answer(this.id, message, {
      said: (text) => ($("chat-said").textContent = text),
      ended: () => this.#settle(),
      again: () => this.#ask(question),
    });
    this.answers.push(answer);
    $("messages").append(answer.element);
    this.#settle();
    return undefined;
  }

  #addQuestion(content) {
    this.asked = content;
    const element = copyOf("message-template");
    element.querySelector(".who").textContent = "You";
    element.querySelector(".text").textContent = content;
    element.querySelector(".state").remove();
    $("messages").append(element);
  }

  #settle() {
    $("send").disabled = Boolean(this.open) || this.isSending;
    $("stop").disabled = !this.open;
  }

  async #send(event) {
    event.preventDefault();
    const content = $("question").value.trim();
    if (content && (await this.#ask(content))) $("question").value = "";
  }

  /** Post a question; tell whether that went well. */
  async #ask(content) {
    if (this.open || this.isSending) return false;
    this.isSending = true;
    this.#settle();
    const posted = await telling($("chat-alert"), () => this.#post(content));
    this.isSending = false;
    this.#settle();
    return Boolean(posted);
  }

  async #post(content) {
    const title = content.slice(0, TITLE_CHARS);
    if (!this.id) {
      this.id = (await begin(title)).id;
      history.replaceState(null, "", `#chat/${this.id}`);
      $("chat-title").textContent = title;
    }
    const chosen = { model: $("model").value.trim(), backend: $("backend").value };
    const posted = await post(this.id, content, chosen);
    remember(this.id, $("chat-title").textContent);
    this.#list();
    $("messages").querySelector(".empty")?.remove();
    this.#addQuestion(content);
    this.#add({ id: posted.message_id, task_id: posted.task_id, status: "pending", content: "" });
    $("chat-said").textContent = "The answer is under way.";
    return posted;
  }

  #maySend(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("ask").requestSubmit();
  }

  #startNew() {
    location.hash = "#chat";
    this.show("");
    $("question").focus();
  }

  #unfold(isOpen = !document.querySelector(".past").classList.contains("open")) {
    document.querySelector(".past").classList.toggle("open", isOpen);
    $("show-past").setAttribute("aria-expanded", isOpen);
  }

  #list() {
    const items = conversations().map(({ id, title, at }) => {
      const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      const link = make("a", { href: `#chat/${id}` }, title, make("small", {}, when));
      if (id === this.id) link.setAttribute("aria-current", "page");
      return make("li", {}, link);
    });
    $("past").replaceChildren(...items);
  }

  /** Another tab has asked something, perhaps here. */
  #heardOfAnother() {
    this.#list();
    if (this.id && !this.open && !this.isSending) this.#load(this.id);
  }
}
