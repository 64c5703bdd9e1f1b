// The chat: past conversations, the open one, and the next question.

import { Problem, ask, begin, cancel, post } from "./api.js";
import { Answer } from "./answer.js";
import { $, copyOf, make, telling } from "./elements.js";
import { conversations, forget, onChange, remember } from "./past.js";
import { Question } from "./question.js";
import { entitle } from "./title.js";

const TITLE_CHARS = 60;
const ID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;
const NEW = "New conversation";
const STATES = { pending: "Answering", failed: "Failed", cancelled: "Stopped" };
const WELCOME = "Ask something. The answer streams word by word; reload the page, or lose the network, and it goes on where it was.";

export class Chat {
  constructor(system) {
    this.answers = [];
    this.question = new Question(system);
    $("ask").addEventListener("submit", (event) => this.#send(event));
    $("stop").addEventListener("click", () => this.#stop());
    addEventListener("keydown", (event) => event.key === "Escape" && this.#mayStop(event));
    $("new-conversation").addEventListener("click", () => this.#startNew());
    $("show-past").addEventListener("click", () => this.#unfold());
    onChange(() => this.#heardOfAnother());
  }

  /** Whether a question or its answer is under way. */
  get isBusy() {
    return Boolean(this.isSending || this.open);
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
    const loading = (this.loading = Symbol(id));
    this.#clear(id);
    this.#list();
    const found = id && (await telling($("chat-alert"), () => this.#read(id)));
    if (this.loading !== loading) return; // another was opened meanwhile
    this.#entitle(found ? (found.title ?? "Conversation") : NEW);
    for (const message of found?.messages ?? []) this.#add(message);
    if (!found?.messages?.length) $("messages").append(make("p", { className: "empty" }, WELCOME));
  }

  async #read(id) {
    if (!ID.test(id)) throw this.#without(id, "This address names no conversation. Choose one of yours, or begin a new one.");
    try {
      return await ask(`conversations/${id}`);
    } catch (error) {
      if (error.status !== 404) throw error;
      forget(id);
      throw this.#without(id, "This server has no such conversation any more, so it left your list. Begin a new one.");
    }
  }

  /** There is no such conversation: what is asked next begins a new one. */
  #without(id, told) {
    this.#drop(id);
    return new Problem(told, 404);
  }

  /** Stand at a new conversation, if this one is open. */
  #drop(id) {
    if (this.id === id) {
      this.id = "";
      if (location.hash === `#chat/${id}`) history.replaceState(null, "", "#chat");
      this.#entitle(NEW);
    }
    this.#list();
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
      ended: () => this.#ended(),
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

  /** What was said of it while it ran is no longer so. */
  #ended() {
    $("chat-alert").textContent = "";
    this.question.tellEnded();
    this.#settle();
  }

  #settle() {
    const focused = document.activeElement;
    $("send").disabled = Boolean(this.open);
    $("stop").disabled = !this.isBusy;
    if (focused?.disabled) (this.open ? $("stop") : $("send")).focus(); // a disabled button loses the keyboard
    this.#entitle();
  }

  /** Name the conversation, here and on the tab, which also says how its last answer stands. */
  #entitle(title = $("chat-title").textContent) {
    $("chat-title").textContent = title;
    entitle("chat", STATES[this.answers.at(-1)?.message.status], title);
  }

  async #send(event) {
    event.preventDefault();
    if (this.open) return this.question.tellRunning();
    const content = this.isSending ? "" : this.question.take();
    if (content && (await this.#ask(content))) this.question.clear();
    return undefined;
  }

  /** Stop the answer; one whose question is still being sent, as soon as that is. */
  async #stop() {
    if (this.isSending) {
      this.mustStop = true;
      return this.question.tellStopping();
    }
    return telling($("chat-alert"), () => this.open?.stop());
  }

  #mayStop({ target, defaultPrevented, isComposing }) {
    const isElsewhere = $("chat").hidden || target.closest?.("dialog, select");
    if (!isElsewhere && !defaultPrevented && !isComposing) this.#stop();
  }

  /** Post a question; tell whether that went well. */
  async #ask(content) {
    if (this.isBusy) return false;
    Object.assign(this, { isSending: true, mustStop: false });
    this.question.tellSending();
    this.#settle();
    const posted = await telling($("chat-alert"), () => this.#post(content));
    this.isSending = false;
    this.question.tellSent();
    this.#settle();
    if (posted && this.mustStop) await telling($("chat-alert"), () => this.#stopSent(posted));
    return Boolean(posted);
  }

  /** Stop what was just sent, also where another conversation was opened meanwhile. */
  #stopSent({ task_id: task }) {
    return this.open?.message.task_id === task ? this.open.stop() : cancel(task);
  }

  async #post(content) {
    const { loading, id: known } = this; // another conversation may be opened meanwhile
    const title = known ? $("chat-title").textContent : content.slice(0, TITLE_CHARS);
    const id = known || (await this.#begin(title));
    if (!known && this.loading === loading) {
      this.id = id;
      history.replaceState(null, "", `#chat/${id}`);
      this.#entitle(title);
    }
    const posted = await post(id, content, this.question.chosen).catch((error) => {
      if (!known && error.isRefusal) this.#takeBack(id, title, error);
      const isModel = error.errors?.some(({ where }) => where === "body.model");
      throw isModel ? new Problem(this.question.refuseModel(), error.status) : error;
    });
    remember(id, title);
    this.#list();
    if (this.loading !== loading) return posted;
    $("messages").querySelector(".empty")?.remove();
    this.#addQuestion(content);
    this.#add({ id: posted.message_id, task_id: posted.task_id, status: "pending", content: "" });
    $("chat-said").textContent = "The answer is under way.";
    return posted;
  }

  /** Begin a conversation, or go on with the empty one of the same question, which was refused. */
  async #begin(title) {
    const { empty } = this;
    this.empty = undefined;
    return empty?.title === title ? empty.id : (await begin(title)).id;
  }

  /** A question that was refused leaves no conversation behind. */
  #takeBack(id, title, { status }) {
    if (status !== 404) this.empty = { id, title };
    this.#drop(id);
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

  /** List the conversations; the view's own link leads back to the one that is open. */
  #list() {
    document.querySelector('nav [data-view="chat"]').hash = this.id ? `#chat/${this.id}` : "#chat";
    const items = conversations().map(({ id, title, at }) => {
      const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      const link = make("a", { href: `#chat/${id}` }, make("span", { dir: "auto" }, title), make("small", {}, when));
      if (id === this.id) link.setAttribute("aria-current", "page");
      return make("li", {}, link);
    });
    $("past").replaceChildren(...items);
  }

  /** Another tab has asked something, perhaps here. */
  #heardOfAnother() {
    this.#list();
    if (this.id && !this.isBusy) this.#load(this.id);
  }
}
